#include <doctest/doctest.h>

#include "tests/common/tiny_artifact.h"
#include "tests/frontend/model_folder.h"
#include "tests/tools/cli_support.h"

namespace abq::test {
namespace {

std::vector<std::string> compile(const std::string& output, std::vector<std::string> more) {
  std::vector<std::string> arguments = {"compile", tiny_llama_dir(), "-o", output};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

}  // namespace

TEST_CASE("compile writes the artifact and a table of its layers") {
  const ScratchFolder folder;
  const std::string output = folder.file("m.abq");
  const ProcessResult result = run_abq(compile(output, {"--scheme", "w2ba8"}));
  check_ok(result);
  check_contains(result.out, {"true bits per weight", "layers.0.mlp.down", "wrote " + output});
  check_contains(result.err, {"block "});
  CHECK(folder.listing() == std::vector<std::string>{"m.abq"});
  check_ok(run_abq({"doctor", output}));
}

TEST_CASE("an existing output is kept without --force and replaced with it") {
  const ScratchFolder folder;
  const std::string output = folder.write("m.abq", "an older file");
  check_refused(run_abq(compile(output, {"--scheme", "w4a8"})), {output, "exists", "--force"});
  CHECK(read_bytes(output) == "an older file");
  check_ok(run_abq(compile(output, {"--scheme", "w4a8", "--force"})));
  CHECK(read_bytes(output).size() > 100000);
  CHECK(folder.listing() == std::vector<std::string>{"m.abq"});
}

TEST_CASE("a recipe gives scheme and overrides and the command line has the last word") {
  const ScratchFolder folder;
  const std::string recipe = folder.write(
      "r.json",
      R"({"scheme": "w4a8", "overrides": [{"pattern": "*.mlp.down", "scheme": "w8a8"}]})");
  const std::string output = folder.file("m.abq");
  check_ok(run_abq(compile(output, {"--recipe", recipe, "--scheme", "w2a8"})));
  const ProcessResult shown = run_abq({"inspect", output});
  check_contains(field(shown.out, "layers.0.mlp.down"), {"w8a8"});
  check_contains(field(shown.out, "layers.0.mlp.up"), {"w2a8"});
}

TEST_CASE("a rotated artifact says how it was turned and runs") {
  const ScratchFolder folder;
  const std::string output = folder.file("m.abq");
  check_ok(run_abq(compile(output, {"--scheme", "w4a4-kv4-q4", "--rotate", "--seed", "9"})));
  const ProcessResult shown = run_abq({"inspect", output});
  check_contains(field(shown.out, "rotation"),
                 {"hadamard 1 x 128", "v -> o by 32", "q and k by 32", "down by 384", "seed 9"});
  check_contains(shown.out, {"embedding and head were one tensor"});
  check_contains(run_abq({"inspect", output, "--json"}).out,
                 {"\"rotation\": {", "\"query_key\": 32"});
  check_ok(run_abq({"doctor", output}));
}

TEST_CASE("smooth with calibration text compiles and reports output quality") {
  const ScratchFolder folder;
  const std::string output = folder.file("m.abq");
  const ProcessResult result =
      run_abq(compile(output, {"--scheme", "w4a4-kv4-q4", "--method", "smooth", "--calib",
                               text_slice(), "--calib-windows", "4", "--calib-context", "64"}));
  check_ok(result);
  check_contains(result.out, {"method smooth", "256 tokens (4 windows of 64)", "y SQNR"});
}

TEST_CASE("gptq with calibration text compiles and reports what its codes save") {
  const ScratchFolder folder;
  const std::string output = folder.file("m.abq");
  const ProcessResult result =
      run_abq(compile(output, {"--scheme", "w3a8", "--method", "gptq", "--calib", text_slice(),
                               "--calib-windows", "4", "--calib-context", "64"}));
  check_ok(result);
  check_contains(result.out, {"method gptq", "of that to nearest (mean of 14 layers)", "rtn loss"});
  const ProcessResult shown = run_abq({"inspect", output, "--json"});
  check_contains(shown.out, {"\"clip_search\": true", "\"nearest_loss\"", "\"damping\": 0.01"});
}

TEST_CASE("with calibration text and no method, best compiles, and reports what learning did") {
  const ScratchFolder folder;
  const std::string output = folder.file("m.abq");
  const ProcessResult result =
      run_abq(compile(output, {"--scheme", "w2ba8", "--calib", text_slice(), "--calib-windows", "8",
                               "--calib-context", "64", "--epochs", "3", "--device", "cpu"}));
  check_ok(result);
  check_contains(result.out, {"method best", "rotation     hadamard", "moved", "distilled: KL"});
  const ProcessResult shown = run_abq({"inspect", output, "--json"});
  check_ok(shown);
  check_contains(shown.out, {"\"distillation\": {", "\"kl_before\"", "\"changed_codes\"",
                             "\"code_rate\"", "\"epochs\": 3", "\"norm_rate\": 0.002"});
  check_ok(run_abq({"run", output, "-p", "the", "-n", "4"}));
}

TEST_CASE("a tensor of the wrong shape is refused by name") {
  const frontend::testing::ModelFolder model;
  model.set_field("intermediate_size", 400);
  const ScratchFolder folder;
  check_refused(run_abq({"compile", model.path(), "-o", folder.file("m.abq"), "--scheme", "w4a8"}),
                {"model.layers.0.mlp.", "400", "384"});
  CHECK(folder.listing().empty());
}

TEST_CASE("NaN in a weight is refused by the tensor's name") {
  const frontend::testing::ModelFolder model;
  frontend::testing::StoredTensors tensors = model.tensors();
  std::string& bytes = tensors.at("model.layers.1.mlp.up_proj.weight").bytes;
  bytes[514] = '\xC0';  // row 2, column 1: bf16 0x7FC0
  bytes[515] = '\x7F';
  model.set_tensors(tensors);
  for (const char* scheme : {"w4a8", "w2ba8-g64", "w1a8"}) {
    CAPTURE(scheme);
    const ScratchFolder folder;
    check_refused(
        run_abq({"compile", model.path(), "-o", folder.file("m.abq"), "--scheme", scheme}),
        {"layers.1.mlp.up", "row 2", "column 1"});
    CHECK(folder.listing().empty());
  }
}

TEST_CASE("NaN in a norm or an embedding is refused by the tensor's name") {
  for (const char* name : {"model.norm.weight", "model.embed_tokens.weight",
                           "model.layers.0.input_layernorm.weight"}) {
    CAPTURE(name);
    const frontend::testing::ModelFolder model;
    frontend::testing::StoredTensors tensors = model.tensors();
    std::string& bytes = tensors.at(name).bytes;
    bytes[2] = '\xC0';
    bytes[3] = '\x7F';
    model.set_tensors(tensors);
    const ScratchFolder folder;
    const ProcessResult result =
        run_abq({"compile", model.path(), "-o", folder.file("m.abq"), "--scheme", "w4a8"});
    check_refused(result, {name, "row 0, column 1", "expected finite weights"});
    CHECK(folder.listing().empty());
  }
}

TEST_CASE("a group size that does not divide K is refused with all layers that it concerns") {
  constexpr size_t kNarrow = 380;
  constexpr size_t kBytes = 2;
  const frontend::testing::ModelFolder model;
  frontend::testing::StoredTensors tensors = model.tensors();
  for (auto& [name, tensor] : tensors) {
    if (name.find("gate_proj") != std::string::npos || name.find("up_proj") != std::string::npos) {
      tensor.bytes.resize(kNarrow * static_cast<size_t>(tensor.shape[1]) * kBytes);
      tensor.shape[0] = kNarrow;
    }
    if (name.find("down_proj") != std::string::npos) {
      const size_t row_bytes = static_cast<size_t>(tensor.shape[1]) * kBytes;
      std::string narrow;
      for (size_t at = 0; at < tensor.bytes.size(); at += row_bytes)
        narrow += tensor.bytes.substr(at, kNarrow * kBytes);
      tensor.bytes = narrow;
      tensor.shape[1] = kNarrow;
    }
  }
  model.set_tensors(tensors);
  model.set_field("intermediate_size", kNarrow);
  const ScratchFolder folder;
  const std::string output = folder.file("m.abq");
  const ProcessResult result =
      run_abq({"compile", model.path(), "-o", output, "--scheme", "w4a8-g64"});
  check_refused(result, {"layers.0.mlp.down", "layers.1.mlp.down", "group size 64", "K=380"});
  CHECK(folder.listing().empty());
  check_ok(run_abq({"compile", model.path(), "-o", output, "--scheme", "w4a8"}));
}

}  // namespace abq::test
