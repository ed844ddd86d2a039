#include "passes/stream.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "support/float16.h"

namespace abq::passes {
namespace {

constexpr int64_t kContext = 700;
constexpr int64_t kHidden = 129;  // two windows are more than one converted chunk, and no multiple
constexpr int64_t kWindow = kContext * kHidden;

// An empty folder, removed with its owner.
class Folder {
 public:
  Folder() : path_(std::filesystem::temp_directory_path() / ("abq_stream_" + pid())) {
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string path() const { return path_.string(); }
  bool empty() const { return std::filesystem::is_empty(path_); }

 private:
  static std::string pid() { return std::to_string(::getpid()); }
  std::filesystem::path path_;
};

// Different at every place, with bits that bf16 has no room for.
std::vector<float> values_from(int64_t seed, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count * kWindow));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(static_cast<int64_t>(i) - 4321 * seed) * 1.0001f;
  return values;
}

std::vector<float> rounded(std::vector<float> values, StreamOptions::Precision precision) {
  if (precision == StreamOptions::Precision::kBFloat16) {
    for (float& value : values)
      value = bf16_to_float(float_to_bf16(value));
  }
  return values;
}

Stream create(int64_t windows, const StreamOptions& options) {
  Result<Stream> stream = Stream::create(windows, kContext, kHidden, options);
  REQUIRE_MESSAGE(stream.ok(), stream.status().to_string());
  return std::move(stream).value();
}

std::vector<float> read(const Stream& stream, int64_t first, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count * kWindow), -1.0f);
  const Status status = stream.read(first, count, values);
  REQUIRE_MESSAGE(status.ok(), status.to_string());
  return values;
}

}  // namespace

TEST_CASE("a stream gives back what was written in memory and in a file and in both precisions") {
  const Folder folder;
  for (const auto precision :
       {StreamOptions::Precision::kFloat32, StreamOptions::Precision::kBFloat16}) {
    for (const std::string& spill : {std::string(), folder.path()}) {
      CAPTURE(spill);
      CAPTURE(static_cast<int>(precision));
      Stream stream = create(5, {.precision = precision, .spill_folder = spill});
      CHECK(stream.windows() == 5);
      CHECK(stream.context() == kContext);
      CHECK(stream.hidden() == kHidden);
      CHECK_FALSE(stream.empty());
      // Out of order, then one window in the middle again.
      REQUIRE(stream.write(3, 2, values_from(3, 2)).ok());
      REQUIRE(stream.write(0, 3, values_from(0, 3)).ok());
      REQUIRE(stream.write(1, 1, values_from(9, 1)).ok());
      const Stream moved = std::move(stream);
      const std::vector<float> start = rounded(values_from(0, 3), precision);
      CHECK(read(moved, 0, 1) == std::vector<float>(start.begin(), start.begin() + kWindow));
      CHECK(read(moved, 1, 1) == rounded(values_from(9, 1), precision));
      CHECK(read(moved, 2, 1) == std::vector<float>(start.begin() + 2 * kWindow, start.end()));
      CHECK(read(moved, 3, 2) == rounded(values_from(3, 2), precision));
    }
  }
}

TEST_CASE("a stream in bf16 rounds half to even") {
  Result<Stream> stream =
      Stream::create(1, 1, 3, {.precision = StreamOptions::Precision::kBFloat16});
  REQUIRE(stream.ok());
  // Between 1 and 1 + 2^-7 lies the tie 1 + 2^-8; the even neighbour is 1, then 1 + 2^-6.
  REQUIRE(stream->write(0, 1, std::vector<float>{1.0f + 0x1p-8f, 1.0f + 3 * 0x1p-8f, -0.5f}).ok());
  std::vector<float> values(3);
  REQUIRE(stream->read(0, 1, values).ok());
  CHECK(values == std::vector<float>{1.0f, 1.0f + 0x1p-6f, -0.5f});
}

TEST_CASE("the file of a stream has no name") {
  const Folder folder;
  Stream stream = create(2, {.spill_folder = folder.path()});
  REQUIRE(stream.write(0, 2, values_from(1, 2)).ok());
  CHECK(folder.empty());
}

TEST_CASE("a stream without windows is empty and needs no storage") {
  CHECK(Stream().empty());
  const Stream stream = create(0, {});
  CHECK(stream.empty());
  CHECK(stream.read(0, 0, {}).ok());
}

TEST_CASE("a stream whose folder is missing is refused with the folder") {
  const Result<Stream> stream =
      Stream::create(1, 1, 1, {.spill_folder = "/no/such/folder/for/streams"});
  REQUIRE(!stream.ok());
  CHECK(stream.status().code() == StatusCode::kIo);
  CHECK(stream.status().message().find("/no/such/folder/for/streams") != std::string::npos);
}

TEST_CASE("a stream that no disk has room for is refused with the folder and the size") {
  const Folder folder;
  // A limit on the size of files stands for a full disk.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit small{1 << 20, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const Result<Stream> stream =
      Stream::create(5, kContext, kHidden, {.spill_folder = folder.path()});
  ::setrlimit(RLIMIT_FSIZE, &before);
  REQUIRE(!stream.ok());
  CHECK(stream.status().code() == StatusCode::kIo);
  CHECK(stream.status().message().find(folder.path()) != std::string::npos);
  CHECK(stream.status().message().find(std::to_string(5 * kWindow * 4)) != std::string::npos);
  CHECK(folder.empty());
}

}  // namespace abq::passes
