#include <doctest/doctest.h>

#include "tests/common/tiny_artifact.h"
#include "tests/tools/cli_support.h"

namespace abq::test {

TEST_CASE("without a subcommand abq prints its help and exits with 2") {
  const ProcessResult result = run_abq({});
  CHECK(result.exit_code == 2);
  check_contains(result.out + result.err, {"compile", "inspect", "run", "eval", "bench", "doctor"});
}

TEST_CASE("an unknown option or subcommand is a usage error") {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"--no-such-option"},
                                             {"doctor", "--no-such-option"},
                                             {"quantise"},
                                             {"inspect"},
                                             {"run", "m.abq", "-n", "many"},
                                             {"run", "m.abq", "-n", "0"},
                                             {"doctor", "--log-level", "loud"},
                                             {"doctor", "--threads", "-1"}}) {
    const ProcessResult result = run_abq(arguments);
    CAPTURE(arguments.front());
    CHECK(result.exit_code == 2);
    CHECK_FALSE((result.out + result.err).empty());
  }
}

TEST_CASE("the help of every subcommand has examples") {
  for (const char* command : {"compile", "inspect", "run", "eval", "bench", "opt", "doctor"}) {
    const ProcessResult result = run_abq({command, "--help"});
    CAPTURE(command);
    CHECK(result.exit_code == 0);
    check_contains(result.out, {"Examples:", std::string("abq ") + command});
  }
}

TEST_CASE("the version is printed") {
  const ProcessResult result = run_abq({"--version"});
  CHECK(result.exit_code == 0);
  CHECK(result.out.starts_with("abq "));
}

TEST_CASE("a reader that closes stdout early crashes nothing") {
  const std::string artifact = tiny_artifact("w4a8");
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"--help"},
                                             {"inspect", artifact},
                                             {"inspect", artifact, "--json"},
                                             {"run", artifact, "-p", "The", "-n", "8"},
                                             {"opt", "--list"},
                                             {"doctor", artifact}}) {
    const ProcessResult result = run_abq(arguments, {.close_stdout = true});
    CAPTURE(arguments.front());
    CAPTURE(result.err);
    CHECK(result.signal == 0);
    CHECK(result.exit_code == 0);
  }
}

TEST_CASE("output that a full disk swallows is an error") {
  const std::string artifact = tiny_artifact("w4a8");
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"inspect", artifact}, {"inspect", artifact, "--json"}, {"opt", "--list"}}) {
    const ProcessResult result = run_abq(arguments, {.stdout_file = "/dev/full"});
    CAPTURE(arguments.front());
    check_refused(result, {"standard output: ", "No space left"});
  }
}

}  // namespace abq::test
