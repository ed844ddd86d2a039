#include "frontend/checkpoint_files.h"

#include <doctest/doctest.h>

#include "frontend/frontend.h"
#include "tests/frontend/model_folder.h"

using namespace abq;
using namespace abq::frontend;
using namespace abq::frontend::testing;
using nlohmann::json;

namespace {

Status open(const ModelFolder& folder) {
  return CheckpointFiles::open(folder.path()).status();
}

}  // namespace

TEST_CASE("shards with an index hold the same tensors as one file") {
  const ModelFolder single;
  const ModelFolder sharded;
  sharded.split_into_shards();
  const auto one = import_checkpoint(single.path());
  const auto two = import_checkpoint(sharded.path());
  REQUIRE(one.ok());
  REQUIRE(two.ok());
  CHECK(weights_digest(one->module) == weights_digest(two->module));
  CHECK(CheckpointFiles::open(sharded.path())->files().size() == 2);
}

TEST_CASE("a missing shard is named") {
  const ModelFolder folder;
  folder.split_into_shards();
  folder.remove(kSecondShard);
  expect_error(open(folder), StatusCode::kNotFound, {kSecondShard, "shard is missing"});
}

TEST_CASE("a shard that the index does not name is refused, other files are left alone") {
  const ModelFolder folder;
  folder.split_into_shards();
  folder.write("adapter.safetensors", "not a shard");
  CHECK(open(folder).ok());
  folder.write("model-00003-of-00003.safetensors", "");
  expect_error(open(folder), StatusCode::kCorrupt,
               {"model-00003-of-00003.safetensors", "not named in model.safetensors.index.json"});
}

TEST_CASE("an index beside a single file that it does not name is refused") {
  const ModelFolder folder;
  const std::string single = folder.read("model.safetensors");
  folder.split_into_shards();
  folder.write("model.safetensors", single);
  expect_error(open(folder), StatusCode::kCorrupt, {"model.safetensors: not named in"});
}

TEST_CASE("a tensor that is missing from the index, or from its shard, is refused") {
  const ModelFolder folder;
  const json index = folder.split_into_shards();
  json changed = index;
  changed["weight_map"].erase("model.norm.weight");
  folder.set_index(changed);
  expect_error(open(folder), StatusCode::kCorrupt,
               {"model.norm.weight: stored in", "missing from model.safetensors.index.json"});
  changed = index;
  changed["weight_map"]["model.norm.weight"] = kSecondShard;
  folder.set_index(changed);
  expect_error(open(folder), StatusCode::kCorrupt,
               {"model.norm.weight", kSecondShard, "which does not have it"});
  changed = index;
  changed["weight_map"]["model.extra.weight"] = kFirstShard;
  folder.set_index(changed);
  expect_error(open(folder), StatusCode::kCorrupt, {"model.extra.weight", "does not have it"});
}

TEST_CASE("a tensor in two shards is refused with both names") {
  const ModelFolder folder;
  folder.split_into_shards();
  StoredTensors second = parse_safetensors(folder.read(kSecondShard));
  second["model.norm.weight"] = {"F32", {1}, "1234"};
  folder.write(kSecondShard, safetensors_bytes(second));
  expect_error(open(folder), StatusCode::kCorrupt,
               {"model.norm.weight: stored twice", kFirstShard, kSecondShard});
}

TEST_CASE("shard names that leave the model folder are refused") {
  const ModelFolder folder;
  const json index = folder.split_into_shards();
  for (const char* name : {"../x.safetensors", "/etc/passwd", "a/b.safetensors", "..", ""}) {
    json changed = index;
    changed["weight_map"]["model.norm.weight"] = name;
    folder.set_index(changed);
    expect_error(open(folder), StatusCode::kCorrupt,
                 {"model.norm.weight: shard", "is not a plain file name"});
  }
}

TEST_CASE("an index that is malformed is refused") {
  const ModelFolder folder;
  folder.split_into_shards();
  folder.write(kIndexName, "{");
  expect_error(open(folder), StatusCode::kCorrupt, {kIndexName, "not valid JSON"});
  folder.write(kIndexName, "{}");
  expect_error(open(folder), StatusCode::kCorrupt, {"weight_map is missing"});
  folder.write(kIndexName, R"({"weight_map": {}})");
  expect_error(open(folder), StatusCode::kCorrupt, {"names no tensors"});
  folder.write(kIndexName, R"({"weight_map": {"a": 3}})");
  expect_error(open(folder), StatusCode::kCorrupt, {"a: expected the name of a shard, got 3"});
}

TEST_CASE("a folder without safetensors says what it has instead") {
  const ModelFolder folder;
  folder.remove("model.safetensors");
  expect_error(open(folder), StatusCode::kNotFound, {"has neither model.safetensors nor"});
  folder.write("pytorch_model.bin", "");
  expect_error(open(folder), StatusCode::kUnsupported, {"pytorch_model.bin", "safetensors first"});
  folder.write(kFirstShard, "");
  expect_error(open(folder), StatusCode::kNotFound, {kFirstShard, "download the index too"});
}
