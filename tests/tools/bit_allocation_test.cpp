// abq compile --target-bits, --target-size and --max-kl, by its command line.
#include <doctest/doctest.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/common/tiny_artifact.h"
#include "tests/tools/cli_support.h"

namespace abq::test {
namespace {

using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

Arguments with(Arguments arguments, const Arguments& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// Small settings that still tell layers apart.
Arguments calibrated(const std::string& output, const Arguments& more) {
  return with({"compile", tiny_llama_dir(), "-o", output, "--device", "cpu", "--calib",
               text_slice(), "--calib-windows", "48", "--calib-context", "128"},
              more);
}

Arguments gptq(const std::string& output, const Arguments& more) {
  return calibrated(output, with({"--method", "gptq", "--rotate"}, more));
}

Json inspected(const std::string& artifact) {
  const ProcessResult result = run_abq({"inspect", artifact, "--json"});
  check_ok(result);
  return Json::parse(result.out);
}

// KL against the float model over the whole text: ten times what calibration has seen.
double text_kl(const std::string& artifact) {
  const ProcessResult result =
      run_abq({"eval", artifact, "--text", text_slice(), "--convention", "gptq-128", "--device",
               "cpu", "--reference", tiny_llama_dir()});
  check_ok(result);
  return std::stod(field(result.out, "KL"));
}

}  // namespace

TEST_CASE("--target-bits loses less than the uniform model of as many bits, and says what it did") {
  const ScratchFolder folder;
  const std::string uniform = folder.file("uniform.abq");
  check_ok(run_abq(gptq(uniform, {"--scheme", "w3a8-kv8"})));
  const Json plain = inspected(uniform);
  CHECK_FALSE(plain.contains("allocation"));

  const std::string mixed = folder.file("mixed.abq");
  const double bits = plain["block_linear_bits"].get<double>() + 0.01;
  const ProcessResult compiled =
      run_abq(gptq(mixed, {"--scheme", "w8a8-kv8", "--split-launches", "--target-bits",
                           fmt::format("{:.6f}", bits)}));
  check_ok(compiled);
  check_contains(compiled.out, {"allocation   for ", "nats per token on 512 calibration tokens",
                                "KL alone, 1e-3 nats", "*"});
  const Json report = inspected(mixed);
  CHECK(report["block_linear_bits"].get<double>() <= bits);
  CHECK(report["block_linear_bits"].get<double>() > bits - 0.1);
  CHECK(text_kl(mixed) < text_kl(uniform));
  const Json& allocation = report["allocation"];
  const double measured = allocation["measured_kl"];
  CHECK(measured > 0.7 * allocation["predicted_kl"].get<double>());
  CHECK(measured < 1.4 * allocation["predicted_kl"].get<double>());
  CHECK(allocation["units"].size() == 14);
  // Bytes that the choice counted with, and those that were stored.
  double planned = 0;
  double weights = 0;
  for (const Json& unit : allocation["units"])
    for (const Json& choice : unit["choices"])
      if (choice["scheme"] == unit["chosen"]) planned += choice["bytes"].get<double>();
  for (const Json& layer : report["layers"])
    weights += layer["n"].get<double>() * layer["k"].get<double>();
  const double stored = report["block_linear_bits"].get<double>() * weights / 8;
  CHECK(planned >= std::round(stored));
  CHECK(planned <= stored + 16 * 14);
  for (const Json& layer : report["layers"]) {
    CAPTURE(layer["name"]);
    for (const Json& unit : allocation["units"])
      if (const auto& names = unit["layers"];
          std::find(names.begin(), names.end(), layer["name"]) != names.end())
        CHECK(unit["chosen"] == layer["scheme"]);
  }
}

TEST_CASE("the recipe inside an artifact makes the same weights again") {
  const ScratchFolder folder;
  const std::string mixed = folder.file("mixed.abq");
  check_ok(run_abq(gptq(mixed, {"--scheme", "w4a8-kv8", "--target-bits", "3.3"})));
  const ProcessResult shown = run_abq({"inspect", mixed, "--recipe"});
  check_ok(shown);
  const std::string again = folder.file("again.abq");
  check_ok(run_abq({"compile", tiny_llama_dir(), "-o", again, "--device", "cpu", "--calib",
                    text_slice(), "--recipe", folder.write("mixed.json", shown.out)}));
  const Json first = inspected(mixed);
  const Json second = inspected(again);
  CHECK(first["recipe"] == second["recipe"]);
  CHECK(first["layers"] == second["layers"]);
  CHECK(first["block_linear_bits"] == second["block_linear_bits"]);
  // Weights lie before the plan, which alone differs: by the report of the choice.
  const std::string bytes = read_bytes(again);
  constexpr size_t kHeader = 4096;
  const auto blobs = static_cast<size_t>(first["block_linear_bits"].get<double>() / 8 * 300e3);
  CHECK(read_bytes(mixed).substr(kHeader, blobs) == bytes.substr(kHeader, blobs));
}

TEST_CASE("the same target gives the same bytes, measured or taken up, on any number of threads") {
  const ScratchFolder folder;
  const Arguments target = {"--scheme",         "w4a8",    "--target-bits", "2.9",
                            "--candidate-bits", "2,2b,3,4"};
  const std::string first = folder.file("first.abq");
  check_ok(run_abq(with({"--threads", "1"}, gptq(first, target))));
  CHECK(folder.listing() == std::vector<std::string>{"first.abq"});
  const std::string work = folder.file("work");
  const Arguments kept = with(target, {"--work-dir", work, "--force"});
  const std::string second = folder.file("second.abq");
  check_ok(run_abq(with({"--threads", "3"}, gptq(second, kept))));
  CHECK(read_bytes(second) == read_bytes(first));
  const ProcessResult third = run_abq(gptq(second, kept));
  check_ok(third);
  check_contains(third.err, {"sensitivities taken up from"});
  CHECK(read_bytes(second) == read_bytes(first));

  folder.write("work/sensitivity.abqwork", "damaged");
  const ProcessResult fourth = run_abq(gptq(second, kept));
  check_ok(fourth);
  check_contains(fourth.err, {"sensitivity.abqwork", "measured anew"});
  CHECK(read_bytes(second) == read_bytes(first));
}

TEST_CASE("--target-size and --max-kl are kept") {
  const ScratchFolder folder;
  const Arguments work = {"--scheme", "w4a8-kv8", "--work-dir", folder.file("work"), "--force"};
  const std::string output = folder.file("m.abq");
  check_ok(run_abq(gptq(output, with(work, {"--target-size", "0.9MB"}))));
  CHECK(std::filesystem::file_size(output) <= 900000);
  CHECK(std::filesystem::file_size(output) > 880000);
  check_ok(run_abq(gptq(output, with(work, {"--max-kl", "0.05"}))));
  const Json loose = inspected(output);
  CHECK(loose["allocation"]["measured_kl"].get<double>() <= 0.05);
  check_ok(run_abq(gptq(output, with(work, {"--max-kl", "0.01"}))));
  const Json strict = inspected(output);
  CHECK(strict["allocation"]["measured_kl"].get<double>() <= 0.01);
  CHECK(strict["block_linear_bits"] > loose["block_linear_bits"]);
}

TEST_CASE("a second choice of widths that was stopped goes on where it was") {
  const ScratchFolder folder;
  const Arguments learned = {"--method", "abq",     "--scheme", "w4a8", "--epochs",
                             "1",        "--force", "--max-kl", "0.5"};
  const std::string whole = folder.file("whole.abq");
  const ProcessResult unstopped = run_abq(calibrated(whole, learned));
  check_ok(unstopped);
  check_contains(unstopped.err, {"above --max-kl; wider widths are chosen"});
  const std::string output = folder.file("m.abq");
  ProcessOptions stop;
  stop.send_signal = SIGKILL;
  stop.signal_at_file = output + ".work/attempt-2/block-layers.0.abqwork";
  CHECK(run_abq(calibrated(output, learned), stop).signal == SIGKILL);
  const ProcessResult again = run_abq(calibrated(output, learned));
  check_ok(again);
  check_contains(again.err, {"2 of 2 blocks taken up from",
                             "blocks taken up from " + output + ".work/attempt-2"});
  CHECK(read_bytes(output) == read_bytes(whole));
  CHECK(folder.listing() == std::vector<std::string>{"m.abq", "whole.abq"});

  // Another target leaves nothing of the second choice behind, either.
  CHECK(run_abq(calibrated(output, learned), stop).signal == SIGKILL);
  check_ok(run_abq(calibrated(output, {"--method", "abq", "--scheme", "w4a8", "--epochs", "1",
                                       "--force", "--target-bits", "4", "--restart"})));
  CHECK(folder.listing() == std::vector<std::string>{"m.abq", "whole.abq"});
}

TEST_CASE("a layer that the recipe names keeps its scheme, and rounding to nearest works, too") {
  const ScratchFolder folder;
  const std::string recipe = folder.write(
      "r.json",
      R"({"scheme": "w4a8", "overrides": [{"pattern": "layers.0.mlp.*", "scheme": "w8a8"}]})");
  const std::string output = folder.file("m.abq");
  check_ok(
      run_abq(calibrated(output, {"--method", "rtn", "--scheme", "w16a16", "--target-bits", "4"})));
  check_ok(run_abq(gptq(output, {"--recipe", recipe, "--target-bits", "5", "--force"})));
  const Json report = inspected(output);
  CHECK(report["block_linear_bits"].get<double>() <= 5);
  for (const Json& layer : report["layers"])
    if (layer["name"].get<std::string>().starts_with("layers.0.mlp"))
      CHECK(layer["scheme"] == "w8a8");
}

TEST_CASE("targets that cannot be met say what can be") {
  const ScratchFolder folder;
  const auto refused = [&](const Arguments& more) {
    return run_abq(gptq(folder.file("m.abq"), with({"--scheme", "w4a8"}, more)));
  };
  check_refused(refused({"--target-bits", "1.5"}),
                {"--target-bits 1.5: out of reach", "come down to 2.33", "--candidate-bits"});
  check_refused(refused({"--target-size", "100000"}), {"--target-size 100000: out of reach"});
  check_refused(refused({"--max-kl", "1e-7"}), {"--max-kl 1e-07: out of reach"});
  // What was measured is kept for another target.
  CHECK(folder.listing() == std::vector<std::string>{"m.abq.work"});
  check_ok(refused({"--target-bits", "2.5"}));
  CHECK(folder.listing() == std::vector<std::string>{"m.abq"});
}

TEST_CASE("an output that is there already is refused before anything is measured") {
  const ScratchFolder folder;
  const std::string output = folder.write("m.abq", "x");
  const ProcessResult result = run_abq(gptq(output, {"--scheme", "w4a8", "--target-bits", "3"}));
  check_refused(result, {"m.abq"});
  CHECK(result.err.find("sensitivity") == std::string::npos);
  CHECK(folder.listing() == std::vector<std::string>{"m.abq"});
}

TEST_CASE("options that do not go together are refused") {
  const ScratchFolder folder;
  const std::string output = folder.file("m.abq");
  check_refused(run_abq(gptq(output, {"--scheme", "w4a8", "--target-bits", "3", "--max-kl", "1"})),
                {"give one of them"});
  check_refused(run_abq(gptq(output, {"--scheme", "w4a8", "--candidate-bits", "3"})),
                {"--candidate-bits", "--target-bits"});
  check_refused(run_abq({"compile", tiny_llama_dir(), "-o", output, "--scheme", "w4a8",
                         "--target-bits", "3"}),
                {"--calib"});
  check_refused(
      run_abq(gptq(output, {"--scheme", "w4a8", "--target-bits", "3", "--candidate-bits", "3,9"})),
      {"width '9'", "1 to 8, 1b or 2b"});
  CHECK(folder.listing().empty());
}

}  // namespace abq::test
