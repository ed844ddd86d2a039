// What the tests of the subcommands share: a scratch folder, texts, and looks at what came back.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "tests/tools/process.h"

namespace abq::test {

// An empty folder, removed with its owner.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  std::string file(std::string_view name) const { return (path_ / name).string(); }
  // Writes a file and gives its path.
  std::string write(std::string_view name, std::string_view bytes) const;
  // Names of all entries, hidden ones too, sorted.
  std::vector<std::string> listing() const;

 private:
  std::filesystem::path path_;
};

std::string read_bytes(const std::string& path);
std::string text_slice();  // path of the bundled WikiText-2 slice

// `abq: error: ...` with exit code 1, the message holding every part.
void check_refused(const ProcessResult& result, std::initializer_list<std::string_view> parts);
void check_ok(const ProcessResult& result);
void check_contains(std::string_view text, std::initializer_list<std::string_view> parts);
// The rest of the line of `text` that starts with `label`, spaces trimmed; fails without one.
std::string field(std::string_view text, std::string_view label);

}  // namespace abq::test
