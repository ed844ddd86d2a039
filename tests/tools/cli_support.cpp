#include "tests/tools/cli_support.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "tests/common/tiny_artifact.h"

namespace abq::test {

ScratchFolder::ScratchFolder() {
  static int counter = 0;
  path_ = temporary_dir() / ("scratch-" + std::to_string(counter++));
  std::filesystem::create_directories(path_);
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string ScratchFolder::write(std::string_view name, std::string_view bytes) const {
  const std::string path = file(name);
  std::ofstream(path, std::ios::binary).write(bytes.data(), std::ssize(bytes));
  return path;
}

std::vector<std::string> ScratchFolder::listing() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE_MESSAGE(file.good(), path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string text_slice() {
  return std::string(ABQ_TEST_DATA_DIR) + "/wikitext2-slice.txt";
}

void check_contains(std::string_view text, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts) {
    CAPTURE(text);
    CAPTURE(part);
    CHECK(text.find(part) != std::string_view::npos);
  }
}

void check_refused(const ProcessResult& result, std::initializer_list<std::string_view> parts) {
  CAPTURE(result.err);
  CHECK(result.exit_code == 1);
  CHECK(result.err.find("abq: error: ") != std::string::npos);
  check_contains(result.err, parts);
}

void check_ok(const ProcessResult& result) {
  CAPTURE(result.err);
  REQUIRE(result.exit_code == 0);
}

std::string field(std::string_view text, std::string_view label) {
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    if (line.starts_with(label)) {
      line.remove_prefix(label.size());
      line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
      return std::string(line);
    }
    begin = end + 1;
  }
  FAIL("no line starts with " << label << " in\n" << text);
  return {};
}

}  // namespace abq::test
