#include <doctest/doctest.h>

#include "support/mapped_file.h"
#include "support/parallel.h"
#include "tests/common/tiny_artifact.h"
#include "tools/compile.h"

namespace abq {
namespace {

std::string compiled_bytes(tools::CompileOptions options) {
  options.model_dir = test::tiny_llama_dir();
  options.output = (test::temporary_dir() / "bytes.abq").string();
  options.force = true;
  const auto result = tools::compile(options);
  REQUIRE_MESSAGE(result.ok(), result.status().to_string());
  const auto bytes = read_text_file(options.output);
  REQUIRE(bytes.ok());
  return *bytes;
}

}  // namespace

TEST_CASE("the same input gives the same bytes for any number of threads") {
  tools::CompileOptions plain;
  plain.scheme = "w2ba8-g64-kv4";
  plain.clip_search = true;
  tools::CompileOptions smooth;
  smooth.scheme = "w4a4-kv4-q4";
  smooth.method = "smooth";
  smooth.calibration_file = std::string(ABQ_TEST_DATA_DIR) + "/wikitext2-slice.txt";
  smooth.calibration_windows = 8;
  smooth.calibration_context = 64;
  tools::CompileOptions rotated;
  rotated.scheme = "w4a8-kv4";
  rotated.rotation = "orthogonal";
  for (const tools::CompileOptions& options : {plain, smooth, rotated}) {
    CAPTURE(options.scheme);
    set_num_threads(1);
    const std::string one = compiled_bytes(options);
    set_num_threads(3);
    CHECK(compiled_bytes(options) == one);
    set_num_threads(0);
    CHECK(compiled_bytes(options) == one);
  }
}

}  // namespace abq
