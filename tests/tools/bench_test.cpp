#include <doctest/doctest.h>

#include <filesystem>

#include <string>
#include <string_view>
#include <vector>

#include "tests/common/tiny_artifact.h"
#include "tests/tools/cli_support.h"

namespace abq::test {

TEST_CASE("bench of an artifact prints prefill and decode") {
  const ProcessResult result = run_abq({"bench", tiny_artifact("w4a8"), "--prompt-tokens", "64",
                                        "--new-tokens", "8", "--repeats", "2", "--threads", "1"});
  check_ok(result);
  CHECK(std::stod(field(result.out, "prefill")) > 0);
  CHECK(std::stod(field(result.out, "decode")) > 0);
  check_contains(field(result.out, "prefill"), {"tokens/s", "64 tokens", "median of 2"});
  check_contains(field(result.out, "decode"), {"tokens/s", "ms per token", "8 tokens after 64"});
  check_contains(field(result.out, "device"), {"1 threads"});
}

TEST_CASE("bench of kernels checks and times each scheme") {
  const ProcessResult result =
      run_abq({"bench", "--kernels", "--schemes", "w2a8,w4a16,w1a1,w8a8-g128", "-m", "1,32", "-n",
               "256", "-k", "512", "--rotate-mib", "1"});
  check_ok(result);
  check_contains(result.out, {"w2a8", "w4a16", "w1a1", "w8a8-g128"});
}

TEST_CASE("bench without anything to measure is refused") {
  check_refused(run_abq({"bench"}), {"--kernels"});
  check_refused(run_abq({"bench", "/no/such.abq"}), {"/no/such.abq"});
  check_refused(run_abq({"bench", "--kernels", "--schemes", "w9a9"}), {"w9a9"});
}

TEST_CASE("bench of model shapes names the shapes, and needs a GPU") {
  check_refused(run_abq({"bench", "--model-shape", "llama-8b"}),
                {"model shape 'llama-8b'", "llama-7b, llama-13b, llama-70b"});
  check_refused(run_abq({"bench", "--model-shape", "llama-7b", "--device", "cpu"}),
                {"--device cuda"});
  check_refused(run_abq({"bench", "--model-shape", "llama-7b", "--schemes", "w16a16"}),
                {"w16a16", "w1..w8"});
  check_refused(run_abq({"bench", "--model-shape", "llama-7b", "--batch", "70000"}),
                {"batch 70000", "1 to 65536"});
}

TEST_CASE("tuning writes a copy that runs as the original does, on a GPU alone") {
  const std::string copy = (temporary_dir() / "tuned.abq").string();
  const ProcessResult result =
      run_abq({"bench", tiny_artifact("w4a8"), "--tune", "-o", copy, "--force"});
  if (result.exit_code != 0) {
    check_refused(result, {"cuda"});
    CHECK_FALSE(std::filesystem::exists(copy));
  } else {
    check_contains(result.out, {"M up to", "wrote "});
    check_ok(run_abq({"bench", copy, "--prompt-tokens", "64", "--new-tokens", "4"}));
  }
  // An output without --tune would stay unwritten.
  CHECK(run_abq({"bench", tiny_artifact("w4a8"), "-o", copy}).exit_code == 2);
  CHECK(run_abq({"bench", "--tune"}).exit_code == 2);
}

TEST_CASE("bench of kernels refuses sizes that no memory holds") {
  for (const char* option : {"-m", "-n", "-k", "--rotate-mib"}) {
    for (const char* value : {"0", "-1", "9223372036854775807"}) {
      CAPTURE(option);
      // Small in everything else: M is looked at last.
      std::vector<std::string> arguments = {"bench", "--kernels"};
      for (const char* other : {"-m", "-n", "-k", "--rotate-mib"}) {
        const bool tested = std::string_view(other) == option;
        arguments.insert(arguments.end(), {other, tested ? value : "1"});
      }
      check_refused(run_abq(arguments), {"expected 1 to 16777216"});
    }
  }
}

// The sanitizer's allocator ends the process instead.
#ifndef __SANITIZE_ADDRESS__
TEST_CASE("running out of memory is an error like any other") {
  check_refused(run_abq({"bench", "--kernels", "-n", "16777216", "-k", "16777216"}),
                {"out of memory"});
}
#endif

}  // namespace abq::test
