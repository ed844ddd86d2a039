#include <doctest/doctest.h>

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/common/tiny_artifact.h"
#include "tests/tools/cli_support.h"
#include "tokenizer/utf8.h"

namespace abq::test {
namespace {

constexpr const char* kPrompt = " the play was written by";

std::vector<std::string> run(const std::string& artifact, std::vector<std::string> more) {
  std::vector<std::string> arguments = {"run", artifact};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// Of the statistics line: "[...: prompt 24 tokens, ...".
int prompt_tokens(const ProcessResult& result) {
  const size_t at = result.err.find("prompt ");
  REQUIRE_MESSAGE(at != std::string::npos, result.err);
  return std::stoi(result.err.substr(at + 7));
}

}  // namespace

TEST_CASE("run continues the golden ids of the float model") {
  const nlohmann::json golden =
      nlohmann::json::parse(read_bytes(tiny_llama_dir() + "/golden.json"));
  const auto prompt = golden["prompt_ids"].get<std::vector<int32_t>>();
  const auto expected = golden["greedy_ids"].get<std::vector<int32_t>>();
  const ProcessResult result = run_abq(
      run(tiny_artifact("w16a16"), {"--prompt-ids", fmt::format("{}", fmt::join(prompt, ",")), "-n",
                                    std::to_string(expected.size()), "--print-ids"}));
  check_ok(result);
  std::istringstream lines(result.out);
  CHECK(std::vector<int32_t>(std::istream_iterator<int32_t>(lines), {}) == expected);
}

TEST_CASE("run streams text that is valid UTF-8 for every width") {
  for (const char* scheme : {"w16a16", "w4a4-kv4-q4", "w1a8"}) {
    const ProcessResult result = run_abq(
        run(tiny_artifact(scheme), {"-p", "caf\xC3\xA9 \xE6\x97\xA5", "-n", "200", "--temperature",
                                    "1.5", "--seed", "3", "--ignore-stop"}));
    CAPTURE(scheme);
    check_ok(result);
    CHECK(result.out.size() > 100);
    CHECK(tokenizer::check_utf8(result.out).ok());
  }
}

TEST_CASE("run adds what the tokenizer asks for unless --no-bos") {
  const std::string artifact = tiny_artifact("w4a8");
  const ProcessResult with = run_abq(run(artifact, {"-p", kPrompt, "-n", "1"}));
  const ProcessResult without = run_abq(run(artifact, {"-p", kPrompt, "-n", "1", "--no-bos"}));
  check_ok(with);
  check_ok(without);
  CHECK(prompt_tokens(with) == prompt_tokens(without) + 1);
}

TEST_CASE("run with one seed gives one text and with another one another") {
  const std::string artifact = tiny_artifact("w4a8");
  const auto text = [&](const char* seed) {
    const ProcessResult result =
        run_abq(run(artifact, {"-p", kPrompt, "-n", "40", "--temperature", "1", "--seed", seed}));
    check_ok(result);
    return result.out;
  };
  const std::string seven = text("7");
  CHECK(text("7") == seven);
  CHECK(text("8") != seven);
}

TEST_CASE("run --echo prints the prompt and --quiet no statistics") {
  const ProcessResult result = run_abq(
      run(tiny_artifact("w4a8"), {"-p", kPrompt, "-n", "3", "--no-bos", "--echo", "--quiet"}));
  check_ok(result);
  CHECK(result.out.starts_with(kPrompt));
  CHECK(result.err.empty());
}

TEST_CASE("run refuses a prompt that it cannot continue") {
  const std::string artifact = tiny_artifact("w4a8");
  check_refused(run_abq(run(artifact, {"-p", "caf\xC3", "-n", "4"})), {"prompt", "UTF-8", "3"});
  check_refused(run_abq(run(artifact, {"-p", "", "--no-bos"})), {"prompt", "empty"});
  check_refused(run_abq(run(artifact, {"--prompt-ids", ""})), {"--prompt-ids", "empty"});
  check_refused(run_abq(run(artifact, {"--prompt-ids", "1,two"})), {"two", "not a token id"});
  check_refused(run_abq(run(artifact, {"--prompt-ids", "5,1024"})), {"1024"});
  check_refused(run_abq(run(artifact, {"--prompt-ids", "-1"})), {"-1"});
  check_refused(run_abq(run(artifact, {"--prompt-ids", "99999999999"})), {"99999999999"});
}

TEST_CASE("run refuses more tokens than the context has") {
  const std::string artifact = tiny_artifact("w4a8");
  check_refused(run_abq(run(artifact, {"--prompt-ids", "5,6,7", "-n", "510"})),
                {"context", "3 prompt tokens", "510", "512", "509"});
  check_refused(run_abq(run(artifact, {"--prompt-ids", "5,6,7", "-n", "9223372036854775807"})),
                {"context", "9223372036854775807", "509"});
  const ProcessResult fits = run_abq(
      run(artifact, {"--prompt-ids", "5,6,7", "-n", "509", "--ignore-stop", "--print-ids"}));
  check_ok(fits);
  CHECK(std::count(fits.out.begin(), fits.out.end(), '\n') == 509);
}

TEST_CASE("run takes CUDA where it works, and refuses a device that is not there") {
  const std::string artifact = tiny_artifact("w4a8");
  const ProcessResult cuda = run_abq(run(artifact, {"-p", "a", "-n", "2", "--device", "cuda"}));
  if (cuda.exit_code == 0) {
    check_contains(cuda.err, {"[cuda-sm_"});
  } else {
    check_refused(cuda, {"cuda", "CPU"});
  }
  check_refused(run_abq(run(artifact, {"-p", "a", "--device", "tpu"})),
                {"tpu", "auto, cpu or cuda"});
}

TEST_CASE("run refuses sampling values out of range") {
  const std::string artifact = tiny_artifact("w4a8");
  const auto refused = [&](const char* option, const char* value, std::string_view name) {
    CAPTURE(option);
    check_refused(run_abq(run(artifact, {"-p", "a", "-n", "2", option, value})),
                  {name, "expected"});
  };
  refused("--temperature", "-1", "temperature");
  refused("--temperature", "nan", "temperature");
  refused("--top-k", "-5", "top-k");
  refused("--top-p", "0", "top-p");
  refused("--top-p", "1.5", "top-p");
  refused("--repetition-penalty", "0", "repetition penalty");
}

}  // namespace abq::test
