#include <doctest/doctest.h>

#include "tests/common/tiny_artifact.h"
#include "tests/tools/cli_support.h"

namespace abq::test {
namespace {

std::vector<std::string> eval(const std::string& artifact, std::vector<std::string> more) {
  std::vector<std::string> arguments = {"eval", artifact, "--windows", "4"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

}  // namespace

TEST_CASE("eval prints the convention and every setting beside the number") {
  const ProcessResult result = run_abq(
      eval(tiny_artifact("w8a8-kv8-q8"), {"--text", text_slice(), "--convention", "gptq-256"}));
  check_ok(result);
  check_contains(field(result.out, "artifact"), {"w8a8-kv8-q8", "rtn"});
  check_contains(field(result.out, "text"), {"24150 tokens", "no BOS"});
  check_contains(field(result.out, "convention"), {"gptq-256", "no overlap"});
  check_contains(field(result.out, "device"), {"threads"});
  check_contains(field(result.out, "scored"), {"1020 tokens in 4 windows"});
  const double perplexity = std::stod(field(result.out, "perplexity"));
  CHECK(perplexity > 15);
  CHECK(perplexity < 40);
}

TEST_CASE("eval without a convention takes windows of the model's context") {
  const ProcessResult result = run_abq(eval(tiny_artifact("w4a8"), {"--text", text_slice()}));
  check_ok(result);
  check_contains(field(result.out, "convention"), {"gptq-512"});
}

TEST_CASE("the float artifact is no distance away from its own checkpoint") {
  const ProcessResult result =
      run_abq(eval(tiny_artifact("w16a16"), {"--text", text_slice(), "--convention", "gptq-256",
                                             "--reference", tiny_llama_dir(), "--max-kl", "1e-5"}));
  check_ok(result);
  CHECK(std::stod(field(result.out, "KL")) == doctest::Approx(0).epsilon(1e-5));
  CHECK(std::stod(field(result.out, "top-1")) > 99.8);
}

TEST_CASE("a missed quality gate is exit code 3 and names the number and the bound") {
  const ProcessResult kl =
      run_abq(eval(tiny_artifact("w2a8"), {"--text", text_slice(), "--convention", "gptq-256",
                                           "--reference", tiny_llama_dir(), "--max-kl", "0.05"}));
  CHECK(kl.exit_code == 3);
  check_contains(kl.err, {"quality gate", "KL", "--max-kl 0.05"});
  CHECK(std::stod(field(kl.out, "KL")) > 0.05);

  const std::vector<std::string> text = {"--text", text_slice(), "--convention", "gptq-256"};
  std::vector<std::string> strict = text;
  strict.insert(strict.end(), {"--max-ppl", "10"});
  const ProcessResult perplexity = run_abq(eval(tiny_artifact("w2a8"), strict));
  CHECK(perplexity.exit_code == 3);
  check_contains(perplexity.err, {"quality gate", "perplexity", "--max-ppl 10"});
  std::vector<std::string> loose = text;
  loose.insert(loose.end(), {"--max-ppl", "100"});
  CHECK(run_abq(eval(tiny_artifact("w8a8-kv8-q8"), loose)).exit_code == 0);
}

TEST_CASE("eval refuses a text that gives no window") {
  const ScratchFolder folder;
  const std::string artifact = tiny_artifact("w4a8");
  const std::string empty = folder.write("empty.txt", "");
  const std::string brief = folder.write("brief.txt", "Only a few words.");
  const std::string broken = folder.write("broken.txt", "caf\xC3");
  check_refused(run_abq(eval(artifact, {"--text", empty})), {empty, "empty"});
  check_refused(run_abq(eval(artifact, {"--text", brief, "--convention", "gptq-256"})),
                {"tokens", "256", "longer text"});
  check_refused(run_abq(eval(artifact, {"--text", broken})), {broken, "UTF-8", "3"});
  check_refused(run_abq(eval(artifact, {"--text", folder.file("absent.txt")})), {"absent.txt"});
}

TEST_CASE("eval refuses a convention that it does not know or cannot hold") {
  const std::string artifact = tiny_artifact("w4a8");
  for (const char* name : {"llama", "gptq", "gptq-", "gptq-1", "gptq-0", "gptq-x", "gptq--5",
                           "gptq-99999999999999999999"}) {
    CAPTURE(name);
    check_refused(run_abq(eval(artifact, {"--text", text_slice(), "--convention", name})),
                  {name, "gptq-<context>"});
  }
  check_refused(run_abq(eval(artifact, {"--text", text_slice(), "--convention", "gptq-1024"})),
                {"1024", "512"});
}

TEST_CASE("eval refuses a reference or a gate that cannot work") {
  const std::string artifact = tiny_artifact("w4a8");
  check_refused(run_abq(eval(artifact, {"--text", text_slice(), "--max-kl", "0.1"})),
                {"--max-kl", "--reference"});
  check_refused(run_abq(eval(artifact, {"--text", text_slice(), "--reference", "/no/such/model"})),
                {"/no/such/model"});
}

}  // namespace abq::test
