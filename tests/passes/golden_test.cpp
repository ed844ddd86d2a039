// Textual IR in, textual IR out: tests/golden/<pass>/*.air.
//
//   ; what the case shows
//   ; RUN: abq opt --passes=quantize --scheme w2a8
//   <input>
//   ; EXPECTED
//   <output>
//
// Options: --passes=LIST, --scheme S, --override PATTERN=S, --calib-tokens N, --seed N. A line
// "; MASK: digests" hides digests, for floats that differ between processors. With the environment
// variable ABQ_UPDATE_GOLDENS=1 the expectations are rewritten (scripts/update_goldens.sh).
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "passes/opt.h"
#include "support/mapped_file.h"

namespace abq::passes {
namespace {

constexpr std::string_view kSeparator = "; EXPECTED\n";

struct GoldenCase {
  std::vector<std::string> passes;
  PassContext context;
  bool mask_digests = false;
  std::string input;
  std::string expected;
};

quant::Scheme scheme_from(const std::string& text) {
  const Result<quant::Scheme> scheme = quant::parse_scheme(text);
  REQUIRE(scheme.ok());
  return *scheme;
}

void parse_run_line(const std::string& line, GoldenCase& golden) {
  quant::Recipe& recipe = golden.context.recipe;
  recipe.calibration = {4, 16};
  std::istringstream words(line);
  std::string word;
  const auto argument = [&] {
    REQUIRE(static_cast<bool>(words >> word));
    return word;
  };
  while (words >> word) {
    if (word.starts_with("--passes=")) {
      std::istringstream list(word.substr(9));
      for (std::string pass; std::getline(list, pass, ',');)
        golden.passes.push_back(pass);
    } else if (word == "--scheme") {
      recipe.scheme = scheme_from(argument());
    } else if (word == "--override") {
      const std::string text = argument();
      const size_t equals = text.find('=');
      REQUIRE(equals != std::string::npos);
      recipe.overrides.push_back({text.substr(0, equals), scheme_from(text.substr(equals + 1))});
    } else if (word == "--calib-tokens") {
      recipe.calibration.context = std::stoll(argument());
    } else if (word == "--seed") {
      recipe.seed = std::stoull(argument());
    } else {
      FAIL("unknown option " << word);
    }
  }
}

GoldenCase parse_case(const std::string& text) {
  GoldenCase golden;
  const size_t separator = text.find(kSeparator);
  golden.input = text.substr(0, separator);
  if (separator != std::string::npos) golden.expected = text.substr(separator + kSeparator.size());
  golden.mask_digests = golden.input.find("; MASK: digests\n") != std::string::npos;
  const std::string start = "; RUN: abq opt ";
  const size_t run = golden.input.find(start);
  REQUIRE(run != std::string::npos);
  const size_t begin = run + start.size();
  parse_run_line(golden.input.substr(begin, golden.input.find('\n', begin) - begin), golden);
  return golden;
}

void check_file(const std::filesystem::path& path) {
  CAPTURE(path.string());
  const Result<std::string> text = read_text_file(path.string());
  REQUIRE(text.ok());
  GoldenCase golden = parse_case(*text);
  std::string output;
  const Status status = run_passes_on_text(golden.input, path.filename().string(), golden.passes,
                                           golden.context, &output);
  // A refusal is an expectation like any other.
  if (!status.ok())
    output = "; " + std::regex_replace(status.to_string(), std::regex("\n"), "\n; ") + "\n";
  if (golden.mask_digests)
    output = std::regex_replace(output, std::regex("digest \"[0-9a-f]*\""), "digest \"*\"");
  if (std::getenv("ABQ_UPDATE_GOLDENS") != nullptr) {
    std::ofstream(path) << golden.input << kSeparator << output;
    return;
  }
  CHECK(output == golden.expected);
}

}  // namespace

TEST_CASE("golden texts: every pass turns its inputs into the expected texts") {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(ABQ_TEST_GOLDEN_DIR))
    if (entry.path().extension() == ".air") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  CHECK(files.size() >= 5);
  for (const std::filesystem::path& path : files)
    check_file(path);
}

}  // namespace abq::passes
