#include "support/mapped_file.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

using namespace abq;

namespace {

// A file that exists for one test.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content) {
    static int count = 0;
    path_ = (std::filesystem::temp_directory_path() /
             fmt::format("abq_mapped_{}_{}", ::getpid(), count++))
                .string();
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace

TEST_CASE("a mapped file shows its bytes") {
  const TemporaryFile file("some bytes");
  const auto mapped = *MappedFile::open(file.path());
  CHECK(text_of(*mapped) == "some bytes");
  CHECK(mapped->path() == file.path());
}

TEST_CASE("dropped pages read the same again, for any range") {
  std::string content(5 * 4096 + 123, 'x');
  for (size_t i = 0; i < content.size(); ++i)
    content[i] = static_cast<char>('a' + i % 23);
  const TemporaryFile file(content);
  const auto mapped = *MappedFile::open(file.path());
  for (const size_t offset : {size_t{0}, size_t{1}, size_t{4096}, size_t{5000}, content.size()}) {
    for (const size_t size : {size_t{0}, size_t{10}, size_t{8192}, content.size()}) {
      mapped->drop_pages(offset, size);
      CHECK(text_of(*mapped) == content);
    }
  }
}

TEST_CASE("an empty file maps to no bytes") {
  const TemporaryFile file("");
  const auto mapped = *MappedFile::open(file.path());
  CHECK(mapped->bytes().empty());
  mapped->drop_pages(0, 0);
  CHECK(read_text_file(file.path())->empty());
}

TEST_CASE("a mapping outlives the removal of its file") {
  auto file = std::make_unique<TemporaryFile>("kept");
  const auto mapped = *MappedFile::open(file->path());
  file.reset();
  CHECK(text_of(*mapped) == "kept");
}

TEST_CASE("a missing file and a folder are refused by name") {
  const Status missing = MappedFile::open("/nonexistent/model.abq").status();
  CHECK(missing.code() == StatusCode::kNotFound);
  CHECK(missing.message() == "/nonexistent/model.abq: no such file");
  const Status folder = MappedFile::open("/").status();
  CHECK(folder.code() == StatusCode::kIo);
  CHECK(folder.message() == "/: not a regular file");
  CHECK(read_text_file("/nonexistent").status().code() == StatusCode::kNotFound);
}

TEST_CASE("a pipe is refused at once, whether or not somebody writes to it") {
  const std::string path =
      (std::filesystem::temp_directory_path() / fmt::format("abq_pipe_{}", ::getpid())).string();
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  const Status pipe = MappedFile::open(path).status();
  std::filesystem::remove(path);
  CHECK(pipe.code() == StatusCode::kIo);
  CHECK(pipe.message() == path + ": not a regular file");
}

TEST_CASE("a text file is read whole") {
  const TemporaryFile file("line\nline\n");
  CHECK(*read_text_file(file.path()) == "line\nline\n");
}
