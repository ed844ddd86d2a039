// Compilations that fail or are stopped: the message, and nothing left behind.
#include <doctest/doctest.h>

#include <csignal>
#include <filesystem>

#include "tests/common/tiny_artifact.h"
#include "tests/frontend/model_folder.h"
#include "tests/tools/cli_support.h"

namespace abq::test {
namespace {

// Options of a compile of tiny-llama into an empty folder, and what the refusal has to say.
struct Refusal {
  std::vector<std::string> options;
  std::initializer_list<std::string_view> message;
};

void check_leaves_nothing(const Refusal& refusal) {
  const ScratchFolder folder;
  std::vector<std::string> arguments = {"compile", tiny_llama_dir(), "-o", folder.file("m.abq")};
  arguments.insert(arguments.end(), refusal.options.begin(), refusal.options.end());
  check_refused(run_abq(arguments), refusal.message);
  CHECK(folder.listing().empty());
}

// Long enough to be interrupted: thousands of calibration tokens.
std::vector<std::string> long_compile(const std::string& output) {
  return {"compile", tiny_llama_dir(),  "-o",     output,    "--scheme",   "w4a4-kv4-q4",
          "--force", "--method",        "smooth", "--calib", text_slice(), "--calib-windows",
          "1000",    "--calib-context", "256"};
}

}  // namespace

TEST_CASE("options that make no compilation are refused") {
  const ScratchFolder inputs;
  const std::string empty = inputs.write("empty.txt", "");
  const std::string brief = inputs.write("brief.txt", "A few words.");
  const std::string broken = inputs.write("broken.txt", "caf\xC3");
  const std::string unmatched = inputs.write(
      "unmatched.json",
      R"({"scheme": "w4a8", "overrides": [{"pattern": "*.mlp.dwon", "scheme": "w8a8"}]})");
  const std::string unknown =
      inputs.write("unknown.json", R"({"scheme": "w4a8", "group_sise": 64})");
  const std::string malformed = inputs.write("malformed.json", R"({"scheme": "w4a8",)");
  check_leaves_nothing({{}, {"no scheme", "--scheme"}});
  check_leaves_nothing({{"--scheme", "w9a8"}, {"w9a8", "1..8 or 16"}});
  check_leaves_nothing({{"--scheme", "four"}, {"four", "expected"}});
  check_leaves_nothing({{"--scheme", "w3ba8"}, {"w3ba8", "1 and 2"}});
  check_leaves_nothing({{"--scheme", "w4a8-g48"}, {"w4a8-g48", "32, 64"}});
  check_leaves_nothing({{"--scheme", "w4a8", "--method", "magic"}, {"magic", "rtn, smooth"}});
  check_leaves_nothing({{"--scheme", "w4a8", "--method", "smooth"}, {"calibration", "--calib"}});
  check_leaves_nothing({{"--scheme", "w4a8", "--calib", empty}, {empty, "empty"}});
  check_leaves_nothing({{"--scheme", "w4a8", "--calib", brief}, {brief, "tokens"}});
  check_leaves_nothing({{"--scheme", "w4a8", "--calib", broken}, {broken, "UTF-8", "3"}});
  check_leaves_nothing(
      {{"--scheme", "w4a8", "--calib", inputs.file("absent.txt")}, {"absent.txt"}});
  check_leaves_nothing({{"--recipe", inputs.file("absent.json")}, {"absent.json"}});
  check_leaves_nothing({{"--recipe", unmatched}, {"*.mlp.dwon", "match"}});
  check_leaves_nothing({{"--recipe", unknown}, {unknown, "group_sise"}});
  check_leaves_nothing({{"--recipe", malformed}, {malformed}});
}

TEST_CASE("options of the command line that mean nothing are usage errors") {
  const ScratchFolder folder;
  const auto check = [&](const std::vector<std::string>& options) {
    std::vector<std::string> arguments = {
        "compile", tiny_llama_dir(), "-o", folder.file("m.abq"), "--scheme", "w4a8"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    CAPTURE(options.back());
    CHECK(run_abq(arguments).exit_code == 2);
    CHECK(folder.listing().empty());
  };
  check({"--device", "gpu"});
  check({"--mem-budget", "8X"});
  check({"--mem-budget", "-1G"});
  check({"--epochs", "0"});
  check({"--batch", "0"});
  check({"--no-resume", "--restart"});
  check({"--no-resume", "--work-dir", "w"});
}

TEST_CASE("a learned compilation that is refused leaves no work folder") {
  check_leaves_nothing({{"--scheme", "w4a8", "--method", "abq"}, {"calibration", "--calib"}});
  check_leaves_nothing({{"--scheme", "w4a8", "--no-let"}, {"--no-let", "--method abq"}});
  // Refused by a pass, with the work folder already made.
  const ScratchFolder inputs;
  const std::string unmatched =
      inputs.write("unmatched.json", R"({"scheme": "w4a8", "method": "abq",
                            "overrides": [{"pattern": "*.mlp.dwon", "scheme": "w8a8"}]})");
  check_leaves_nothing({{"--recipe", unmatched, "--calib", text_slice(), "--calib-windows", "2",
                         "--calib-context", "32", "--device", "cpu"},
                        {"*.mlp.dwon", "match"}});
}

TEST_CASE("a folder without a model is refused by its path") {
  const ScratchFolder folder;
  const std::string absent = folder.file("no-such-model");
  check_refused(run_abq({"compile", absent, "-o", folder.file("m.abq"), "--scheme", "w4a8"}),
                {absent});
  const ScratchFolder empty;
  check_refused(
      run_abq({"compile", empty.file(""), "-o", folder.file("m.abq"), "--scheme", "w4a8"}),
      {"config.json"});
  CHECK(folder.listing().empty());
}

TEST_CASE("generation settings that nothing could use are refused before any work") {
  const frontend::testing::ModelFolder model;
  const ScratchFolder folder;
  const auto refused = [&](std::string_view settings,
                           std::initializer_list<std::string_view> parts) {
    CAPTURE(settings);
    model.write("generation_config.json", settings);
    const ProcessResult result =
        run_abq({"compile", model.path(), "-o", folder.file("m.abq"), "--scheme", "w4a8"});
    check_refused(result, parts);
    CHECK(result.err.find("block ") == std::string::npos);
    CHECK(folder.listing().empty());
  };
  refused(R"([1])", {"generation_config.json", "object"});
  refused(R"({"eos_token_id": "end"})", {"eos_token_id", "end"});
  refused(R"({"eos_token_id": [1, -1]})", {"eos_token_id", "-1"});
  refused(R"({"eos_token_id": 4294967297})", {"eos_token_id", "4294967297"});
  refused(R"({"do_sample": "yes"})", {"do_sample", "yes", "true or false"});
  refused(R"({"do_sample": true, "temperature": -0.5})", {"temperature", "-0.5"});
  refused(R"({"do_sample": true, "temperature": 1e300})", {"temperature", "1e+300"});
  refused(R"({"do_sample": true, "temperature": "hot"})", {"temperature", "hot"});
  refused(R"({"do_sample": true, "top_p": 1.5})", {"top_p", "1.5"});
  refused(R"({"do_sample": true, "top_k": 2.5})", {"top_k", "2.5"});
  refused(R"({"do_sample": true, "top_k": 99999999999})", {"top_k", "99999999999"});
  refused(R"({"do_sample": true, "repetition_penalty": 0})", {"repetition_penalty", "0"});
}

TEST_CASE("an output that cannot be written is refused") {
  const ScratchFolder folder;
  const std::string deep = folder.file("no/such/folder/m.abq");
  check_refused(run_abq({"compile", tiny_llama_dir(), "-o", deep, "--scheme", "w4a8"}),
                {deep, "does not exist"});
  std::filesystem::create_directory(folder.file("directory"));
  for (const char* name : {"directory", "directory/"}) {
    check_refused(run_abq({"compile", tiny_llama_dir(), "-o", folder.file(name), "--scheme", "w4a8",
                           "--force"}),
                  {folder.file(name)});
  }
  CHECK(folder.listing() == std::vector<std::string>{"directory"});
  CHECK(std::filesystem::is_empty(folder.file("directory")));
}

TEST_CASE("a full disk ends a compilation with a message and leaves nothing") {
  const ScratchFolder folder;
  const std::string output = folder.file("m.abq");
  for (const int64_t limit : {int64_t{0}, int64_t{4096}, int64_t{300000}}) {
    CAPTURE(limit);
    check_refused(run_abq({"compile", tiny_llama_dir(), "-o", output, "--scheme", "w8a8"},
                          {.file_size_limit = limit}),
                  {output, "cannot"});
    CHECK(folder.listing().empty());
  }
}

TEST_CASE("an interrupted compilation leaves nothing behind") {
  for (const int signal : {SIGINT, SIGTERM}) {
    CAPTURE(signal);
    const ScratchFolder folder;
    const ProcessResult result = run_abq(long_compile(folder.file("m.abq")),
                                         {.send_signal = signal, .signal_after = "block "});
    CAPTURE(result.err);
    CHECK(result.exit_code != 0);
    CHECK(result.signal == signal);
    CHECK(folder.listing().empty());
  }
}

TEST_CASE("an interrupted compilation leaves the older artifact as it was") {
  const ScratchFolder folder;
  const std::string output = folder.write("m.abq", "an older file");
  const ProcessResult result =
      run_abq(long_compile(output), {.send_signal = SIGINT, .signal_after = "block "});
  CHECK(result.signal == SIGINT);
  CHECK(folder.listing() == std::vector<std::string>{"m.abq"});
  CHECK(read_bytes(output) == "an older file");
}

}  // namespace abq::test
