#include "tools/fingerprint.h"

#include <doctest/doctest.h>

#include "tests/frontend/model_folder.h"

namespace abq::test {
namespace {

using Windows = std::vector<std::vector<int32_t>>;
using Precision = passes::StreamOptions::Precision;

proto::Fingerprint fingerprint_of(const std::string& model_dir, const Windows& windows,
                                  const quant::Recipe& recipe = {}) {
  const auto checkpoint = frontend::import_checkpoint(model_dir);
  REQUIRE_MESSAGE(checkpoint.ok(), checkpoint.status().to_string());
  return tools::make_fingerprint(*checkpoint, recipe, windows, "cpu-avx2", Precision::kFloat32);
}

}  // namespace

TEST_CASE("the same compilation has the same fingerprint") {
  const frontend::testing::ModelFolder model;
  const proto::Fingerprint one = fingerprint_of(model.path(), {{1, 2}, {3}});
  const proto::Fingerprint two = fingerprint_of(model.path(), {{1, 2}, {3}});
  CHECK(tools::differences(one, two).empty());
  CHECK(tools::digest(one) == tools::digest(two));
}

TEST_CASE("one changed weight changes the fingerprint though no header shows it") {
  const frontend::testing::ModelFolder model;
  frontend::testing::StoredTensors tensors = model.tensors();
  model.set_tensors(tensors);  // from here on the headers are equal
  const proto::Fingerprint before = fingerprint_of(model.path(), {{1}});
  std::string& bytes = tensors.at("model.layers.1.mlp.up_proj.weight").bytes;
  bytes[0] = static_cast<char>(bytes[0] ^ 1);
  model.set_tensors(tensors);
  const proto::Fingerprint after = fingerprint_of(model.path(), {{1}});
  CHECK(tools::differences(after, before) ==
        std::vector<std::string>{"weights of the checkpoint: other values"});
  CHECK(tools::digest(before) != tools::digest(after));
}

TEST_CASE("other tokens and other cuts of the same tokens are other calibration") {
  const frontend::testing::ModelFolder model;
  const proto::Fingerprint before = fingerprint_of(model.path(), {{1, 2}, {3}});
  for (const Windows& windows : {Windows{{1, 2}, {4}}, Windows{{1}, {2, 3}}, Windows{{1, 2, 3}}}) {
    CHECK(tools::differences(fingerprint_of(model.path(), windows), before) ==
          std::vector<std::string>{"calibration text: other tokens"});
  }
}

TEST_CASE("a changed configuration is named by its file") {
  const frontend::testing::ModelFolder model;
  const proto::Fingerprint before = fingerprint_of(model.path(), {{1}});
  model.set_field("rms_norm_eps", 0.125);
  CHECK(tools::differences(fingerprint_of(model.path(), {{1}}), before) ==
        std::vector<std::string>{"config.json: other contents"});
}

}  // namespace abq::test
