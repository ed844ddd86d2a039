#include "tools/work_folder.h"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "backend/backend.h"
#include "tests/tools/cli_support.h"
#include "tools/fingerprint.h"

namespace abq::test {
namespace {

using tools::WorkFolder;

proto::Fingerprint fingerprint() {
  proto::Fingerprint print;
  print.set_tool_version("1.2.3");
  proto::Fingerprint::Input& config = *print.add_inputs();
  config.set_name("config.json");
  config.set_digest("aa");
  proto::Fingerprint::Input& weights = *print.add_inputs();
  weights.set_name("model.safetensors");
  weights.set_digest("bb");
  print.set_weights_digest("cc");
  quant::Recipe recipe;
  recipe.scheme = *quant::parse_scheme("w4a4");
  recipe.method = "abq";
  print.set_recipe_json(backend::recipe_to_json(recipe));
  print.set_calibration_digest("dd");
  print.set_device("cpu-avx2");
  print.set_stream_precision("float32");
  return print;
}

passes::LearnedBlock learned_block() {
  passes::LearnedBlock block;
  block.tensors.push_back({"scale", 1, 3, {1.5f, -0.0f, std::numeric_limits<float>::infinity()}});
  block.tensors.push_back({"clip", 2, 2, {1e-40f, 2, 3, 4}});
  block.tensors.push_back({"none", 0, 4, {}});
  block.report.name = "layers.0";
  block.report.epochs = {{3, 1, 2, 0}};
  block.report.learned_kept = false;
  block.report.events = {"halved the rates"};
  return block;
}

std::unique_ptr<WorkFolder> open(const std::string& path,
                                 const proto::Fingerprint& print = fingerprint(),
                                 bool restart = false) {
  auto folder = WorkFolder::open(path, print, restart);
  REQUIRE_MESSAGE(folder.ok(), folder.status().to_string());
  return std::move(folder).value();
}

Status refusal(const std::string& path, const proto::Fingerprint& print) {
  const auto folder = WorkFolder::open(path, print, false);
  REQUIRE(!folder.ok());
  return folder.status();
}

// A folder in which one block has been learned; its compilation was stopped.
std::string stopped_work(const ScratchFolder& scratch) {
  const std::string path = scratch.file("m.abq.work");
  const auto folder = open(path);
  const Status saved = folder->save("layers.0", learned_block());
  REQUIRE_MESSAGE(saved.ok(), saved.to_string());
  return path;
}

std::string block_path(const std::string& folder) {
  return folder + "/block-layers.0.abqwork";
}

}  // namespace

TEST_CASE("a learned block comes back in the next compilation as it was") {
  const ScratchFolder scratch;
  const std::string path = stopped_work(scratch);
  const auto folder = open(path);
  CHECK(folder->loaded_blocks() == 0);
  const auto back = folder->load("layers.0");
  REQUIRE_MESSAGE(back.ok(), back.status().to_string());
  REQUIRE(back->has_value());
  const passes::LearnedBlock expected = learned_block();
  const passes::LearnedBlock& block = **back;
  REQUIRE(block.tensors.size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(block.tensors[i].name == expected.tensors[i].name);
    CHECK(block.tensors[i].rows == expected.tensors[i].rows);
    CHECK(block.tensors[i].cols == expected.tensors[i].cols);
    CHECK(block.tensors[i].values == expected.tensors[i].values);
  }
  CHECK(std::signbit(block.tensors[0].values[1]));
  CHECK(block.report.name == "layers.0");
  REQUIRE(block.report.epochs.size() == 1);
  CHECK(block.report.epochs[0].akl == 2);
  CHECK_FALSE(block.report.learned_kept);
  CHECK(block.report.events == expected.report.events);
  CHECK(folder->loaded_blocks() == 1);

  const auto other = folder->load("layers.1");
  REQUIRE(other.ok());
  CHECK_FALSE(other->has_value());
  CHECK(folder->loaded_blocks() == 1);
}

TEST_CASE("a finished compilation removes its work folder") {
  const ScratchFolder scratch;
  const std::string path = stopped_work(scratch);
  open(path)->remove();
  CHECK(scratch.listing().empty());
}

TEST_CASE("a file of somebody else in the work folder is never deleted") {
  const ScratchFolder scratch;
  const std::string path = stopped_work(scratch);
  scratch.write("m.abq.work/notes.txt", "mine");
  scratch.write("m.abq.work/block-layers.0.txt", "mine too");
  open(path, fingerprint(), true);
  open(path)->remove();
  CHECK(scratch.listing() == std::vector<std::string>{"m.abq.work"});
  CHECK(read_bytes(path + "/notes.txt") == "mine");
  CHECK(read_bytes(path + "/block-layers.0.txt") == "mine too");
}

TEST_CASE("a work folder in which nothing was learned does not stay") {
  const ScratchFolder scratch;
  open(scratch.file("m.abq.work"));
  CHECK(scratch.listing().empty());
}

TEST_CASE("another fingerprint is refused with every difference") {
  const ScratchFolder scratch;
  const std::string path = stopped_work(scratch);
  const auto check = [&](const proto::Fingerprint& print,
                         std::initializer_list<std::string_view> parts) {
    const Status status = refusal(path, print);
    CHECK(status.code() == StatusCode::kInvalidArgument);
    check_contains(status.message(), {path, "another compilation", "--restart"});
    check_contains(status.message(), parts);
  };
  proto::Fingerprint print = fingerprint();
  print.set_tool_version("1.2.4");
  print.set_device("cuda-sm_90");
  check(print, {"abq is 1.2.4, was 1.2.3", "device is cuda-sm_90, was cpu-avx2"});

  print = fingerprint();
  print.mutable_inputs(1)->set_digest("b2");
  print.set_weights_digest("c2");
  print.mutable_inputs(0)->set_name("configuration.json");
  check(print, {"model.safetensors: other contents", "configuration.json: was not there",
                "config.json: is gone"});

  print = fingerprint();
  print.set_weights_digest("c2");
  print.set_calibration_digest("d2");
  print.set_stream_precision("bf16");
  check(print, {"weights of the checkpoint: other values", "calibration text: other tokens",
                "is bf16, was float32"});

  quant::Recipe recipe;
  recipe.scheme = *quant::parse_scheme("w2ba8");
  recipe.method = "abq";
  recipe.calibration.windows = 64;
  recipe.correction.epochs = 7;
  recipe.overrides.push_back({"*.down", *quant::parse_scheme("w8a8")});
  print = fingerprint();
  print.set_recipe_json(backend::recipe_to_json(recipe));
  check(print, {"recipe: scheme is w2ba8, was w4a4", "recipe: calibration.windows is 64, was 128",
                "recipe: correction.epochs is 7, was not given",
                "recipe: overrides[0].scheme is w8a8, was not given"});
}

TEST_CASE("a refused folder keeps its work and a restart discards it") {
  const ScratchFolder scratch;
  const std::string path = stopped_work(scratch);
  proto::Fingerprint other = fingerprint();
  other.set_device("cuda-sm_90");
  CHECK_FALSE(refusal(path, other).ok());
  CHECK(open(path)->load("layers.0")->has_value());

  scratch.write("m.abq.work/block-layers.7.abqwork.new", "half of a block");
  {
    const auto folder = open(path, other, true);
    CHECK_FALSE(folder->load("layers.0")->has_value());
    REQUIRE(folder->save("layers.1", learned_block()).ok());
    CHECK_FALSE(std::filesystem::exists(path + "/block-layers.7.abqwork.new"));
  }
  check_contains(refusal(path, fingerprint()).message(), {"device is cpu-avx2, was cuda-sm_90"});
}

TEST_CASE("work folders without a learned block are taken over by any compilation") {
  const ScratchFolder scratch;
  const std::string path = stopped_work(scratch);
  std::filesystem::remove(block_path(path));
  proto::Fingerprint other = fingerprint();
  other.set_device("cuda-sm_90");
  const auto folder = open(path, other);
  CHECK_FALSE(folder->load("layers.0")->has_value());
}

TEST_CASE(
    "any flipped or missing byte of a learned block is refused with the file and the way out") {
  const ScratchFolder scratch;
  const std::string path = stopped_work(scratch);
  const std::string whole = read_bytes(block_path(path));
  const auto check = [&](const std::string& bytes) {
    scratch.write("m.abq.work/block-layers.0.abqwork", bytes);
    const auto folder = open(path);
    const auto block = folder->load("layers.0");
    REQUIRE(!block.ok());
    CHECK(block.status().code() == StatusCode::kCorrupt);
    check_contains(block.status().message(), {block_path(path), "--restart"});
    CHECK(folder->loaded_blocks() == 0);
  };
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string flipped = whole;
    flipped[i] = static_cast<char>(flipped[i] ^ 0x10);
    check(flipped);
  }
  for (const size_t size : {size_t{0}, size_t{5}, size_t{20}, size_t{24}, whole.size() - 1})
    check(whole.substr(0, size));
  check(whole + "x");
}

TEST_CASE("a block file under another name is refused") {
  const ScratchFolder scratch;
  const std::string path = stopped_work(scratch);
  std::filesystem::copy(block_path(path), path + "/block-layers.1.abqwork");
  const auto folder = open(path);
  const auto block = folder->load("layers.1");
  REQUIRE(!block.ok());
  check_contains(block.status().message(), {"another block"});
}

TEST_CASE("a damaged or missing fingerprint beside learned blocks is refused") {
  const ScratchFolder scratch;
  const std::string path = stopped_work(scratch);
  scratch.write("m.abq.work/fingerprint.abqwork", "nonsense");
  Status status = refusal(path, fingerprint());
  CHECK(status.code() == StatusCode::kCorrupt);
  check_contains(status.message(), {"fingerprint.abqwork", "--restart"});
  std::filesystem::remove(path + "/fingerprint.abqwork");
  status = refusal(path, fingerprint());
  check_contains(status.message(), {"fingerprint.abqwork", "--restart"});
  open(path, fingerprint(), true);
}

TEST_CASE("two compilations in one work folder at a time are refused") {
  const ScratchFolder scratch;
  const std::string path = scratch.file("m.abq.work");
  {
    const auto first = open(path);
    const Status status = refusal(path, fingerprint());
    CHECK(status.code() == StatusCode::kInvalidArgument);
    check_contains(status.message(), {path, "another compilation is at work", "--work-dir"});
    // A refused one takes nothing away from the one at work.
    REQUIRE(first->save("layers.0", learned_block()).ok());
  }
  CHECK(open(path)->load("layers.0")->has_value());
}

TEST_CASE("a work folder that cannot be made is refused with its path") {
  const ScratchFolder scratch;
  const auto deep = WorkFolder::open(scratch.file("no/such"), fingerprint(), false);
  REQUIRE(!deep.ok());
  CHECK(deep.status().code() == StatusCode::kNotFound);
  check_contains(deep.status().message(), {scratch.file("no"), "does not exist"});
  const std::string file = scratch.write("file", "x");
  check_contains(refusal(file, fingerprint()).message(), {file, "not a folder"});
}

TEST_CASE("a block whose name is no file name is refused") {
  const ScratchFolder scratch;
  const auto folder = open(scratch.file("m.abq.work"));
  CHECK_FALSE(folder->save("../layers.0", learned_block()).ok());
  CHECK_FALSE(folder->load("a/b").ok());
  CHECK_FALSE(folder->load("").ok());
}

}  // namespace abq::test
