// Learned compilations that are killed, taken up again, short of memory: always the same bytes.
#include <doctest/doctest.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/common/tiny_artifact.h"
#include "tests/tools/cli_support.h"

namespace abq::test {
namespace {

// Some seconds of learning: long enough to be killed in the middle of the second block.
std::vector<std::string> learn(const std::string& output, std::vector<std::string> more = {},
                               const std::string& method = "abq") {
  std::vector<std::string> arguments = {"compile",
                                        tiny_llama_dir(),
                                        "-o",
                                        output,
                                        "--scheme",
                                        "w4a4",
                                        "--method",
                                        method,
                                        "--calib",
                                        text_slice(),
                                        "--calib-windows",
                                        "8",
                                        "--calib-context",
                                        "64",
                                        "--epochs",
                                        "12",
                                        "--device",
                                        "cpu"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// The bytes that every one of these compilations has to give, made by one thread without a folder.
const std::string& undisturbed_bytes() {
  static const std::string bytes = [] {
    const ScratchFolder folder;
    const std::string output = folder.file("m.abq");
    check_ok(run_abq(learn(output, {"--no-resume", "--threads", "1"})));
    CHECK(folder.listing() == std::vector<std::string>{"m.abq"});
    return read_bytes(output);
  }();
  return bytes;
}

// Kills the compilation when `file` appears in its work folder; nothing but that folder is left.
void kill_at(const ScratchFolder& folder, const std::string& file,
             const std::string& method = "abq") {
  const ProcessResult result =
      run_abq(learn(folder.file("m.abq"), {}, method),
              {.send_signal = SIGKILL, .signal_at_file = folder.file("m.abq.work/" + file)});
  CAPTURE(result.err);
  REQUIRE(result.signal == SIGKILL);
  CHECK(folder.listing() == std::vector<std::string>{"m.abq.work"});
}

constexpr const char* kFirstBlock = "block-layers.0.abqwork";

}  // namespace

TEST_CASE("a learned compilation that is killed and started again gives the same bytes") {
  const ScratchFolder folder;
  kill_at(folder, "fingerprint.abqwork");
  kill_at(folder, kFirstBlock);
  const std::string first_block = read_bytes(folder.file("m.abq.work/") + kFirstBlock);
  const ProcessResult result = run_abq(learn(folder.file("m.abq")));
  check_ok(result);
  check_contains(result.err, {"1 of 2 blocks taken up from " + folder.file("m.abq.work")});
  CHECK_FALSE(first_block.empty());
  CHECK(folder.listing() == std::vector<std::string>{"m.abq"});
  CHECK(read_bytes(folder.file("m.abq")) == undisturbed_bytes());
}

TEST_CASE("a learned compilation is not taken up by another recipe unless told to start again") {
  const ScratchFolder folder;
  const std::string output = folder.file("m.abq");
  kill_at(folder, kFirstBlock);
  check_refused(run_abq(learn(output, {"--no-akl"})),
                {"m.abq.work", "recipe: correction.akl_float is 0, was ", "--restart"});
  check_refused(run_abq(learn(output, {"--seed", "5"})), {"recipe: seed is 5, was 0"});
  CHECK(folder.listing() == std::vector<std::string>{"m.abq.work"});
  const ProcessResult result = run_abq(learn(output, {"--restart"}));
  check_ok(result);
  CHECK(result.err.find("taken up") == std::string::npos);
  CHECK(read_bytes(output) == undisturbed_bytes());
}

TEST_CASE("a damaged learned block is refused by its path and learned again on request") {
  const ScratchFolder folder;
  const std::string output = folder.file("m.abq");
  kill_at(folder, kFirstBlock);
  const std::string path = std::string("m.abq.work/") + kFirstBlock;
  std::string bytes = read_bytes(folder.file(path));
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  folder.write(path, bytes);
  check_refused(run_abq(learn(output)), {folder.file(path), "checksum", "--restart"});
  check_ok(run_abq(learn(output, {"--restart"})));
  CHECK(read_bytes(output) == undisturbed_bytes());
}

TEST_CASE("hidden states in files give the bytes of hidden states in memory") {
  const ScratchFolder folder;
  // Four streams of 8 x 64 x 128 values are 1 MiB in float32 and half of that in bf16; little
  // memory also splits batches, the same way for both of the last two.
  const auto compile = [&](const std::string& budget) {
    const std::string output = folder.file("m.abq");
    check_ok(run_abq(learn(output, {"--mem-budget", budget, "--force"})));
    CHECK(folder.listing() == std::vector<std::string>{"m.abq"});
    return read_bytes(output);
  };
  CHECK(compile("1G") == undisturbed_bytes());
  const std::string in_memory = compile("1536K");
  CHECK(in_memory != undisturbed_bytes());
  CHECK(compile("100K") == in_memory);
  const ProcessResult shown = run_abq({"inspect", folder.file("m.abq")});
  check_contains(shown.out, {"were kept in bf16", "memory: 1 of 4 windows"});
}

TEST_CASE("inspect shows what was learned of each block") {
  const ScratchFolder folder;
  const std::string output = folder.write("m.abq", undisturbed_bytes());
  const ProcessResult shown = run_abq({"inspect", output});
  check_ok(shown);
  check_contains(shown.out, {"loss: start -> learned", "learned scales of", "mlp.up -> down"});
  const ProcessResult listed = run_abq({"inspect", output, "--json"});
  const nlohmann::json report = nlohmann::json::parse(listed.out, nullptr, false);
  REQUIRE(report.is_object());
  CHECK(report["recipe"]["method"] == "abq");
  CHECK(report["recipe"]["correction"]["epochs"] == 12);
  REQUIRE(report["blocks"].size() == 2);
  for (const nlohmann::json& block : report["blocks"]) {
    CAPTURE(block.dump());
    CHECK(block["loss_epochs"].size() == 12);
    // The same bytes are worth little where nothing learned is in them.
    CHECK(block["learned_kept"] == true);
    CHECK(block["loss_learned"]["total"] < block["loss_rounding"]["total"]);
    CHECK_FALSE(block["scales"].empty());
  }
}

TEST_CASE(
    "method best that was killed goes on behind the blocks it has learned, to the same bytes") {
  const ScratchFolder undisturbed;
  check_ok(run_abq(learn(undisturbed.file("m.abq"), {"--no-resume", "--threads", "1"}, "best")));
  const ScratchFolder folder;
  kill_at(folder, kFirstBlock, "best");
  const ProcessResult resumed = run_abq(learn(folder.file("m.abq"), {}, "best"));
  check_ok(resumed);
  check_contains(resumed.err, {"1 of 2 blocks taken up"});
  CHECK(folder.listing() == std::vector<std::string>{"m.abq"});
  CHECK(read_bytes(folder.file("m.abq")) == read_bytes(undisturbed.file("m.abq")));
}

}  // namespace abq::test
