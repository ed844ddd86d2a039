#include "passes/stream.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "support/float16.h"

namespace abq::passes {

// Bytes by offset; the stream above knows what they mean.
class Stream::Storage {
 public:
  explicit Storage(StreamOptions::Precision precision) : precision_(precision) {}
  virtual ~Storage() = default;
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  StreamOptions::Precision precision() const { return precision_; }
  virtual Status read(int64_t offset, std::span<std::byte> bytes) = 0;
  virtual Status write(int64_t offset, std::span<const std::byte> bytes) = 0;

  static Result<std::shared_ptr<Storage>> in_memory(int64_t bytes,
                                                    StreamOptions::Precision precision);
  static Result<std::shared_ptr<Storage>> in_file(int64_t bytes, const StreamOptions& options);

 private:
  class Memory;
  class File;

  StreamOptions::Precision precision_;
};

class Stream::Storage::Memory : public Stream::Storage {
 public:
  // Untouched pages cost nothing until windows are written.
  Memory(int64_t bytes, StreamOptions::Precision precision)
      : Storage(precision),
        bytes_(std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(bytes))) {}

  Status read(int64_t offset, std::span<std::byte> bytes) override {
    std::memcpy(bytes.data(), bytes_.get() + offset, bytes.size());
    return {};
  }
  Status write(int64_t offset, std::span<const std::byte> bytes) override {
    std::memcpy(bytes_.get() + offset, bytes.data(), bytes.size());
    return {};
  }

 private:
  std::unique_ptr<std::byte[]> bytes_;
};

class Stream::Storage::File : public Stream::Storage {
 public:
  File(std::string folder, StreamOptions::Precision precision)
      : Storage(precision), folder_(std::move(folder)) {}
  ~File() override {
    if (fd_ >= 0) ::close(fd_);
  }

  Status open(int64_t bytes);
  Status read(int64_t offset, std::span<std::byte> bytes) override;
  Status write(int64_t offset, std::span<const std::byte> bytes) override;

 private:
  Status reserve(int64_t bytes);
  Status failure(std::string_view what, int error) const {
    return io_error("{}: cannot {} a file for hidden states: {}", folder_, what,
                    std::strerror(error));
  }

  std::string folder_;
  int fd_ = -1;
};

Status Stream::Storage::File::open(int64_t bytes) {
  fd_ = ::open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd_ < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
    // A file system without anonymous files: the name goes at once.
    std::string name = folder_ + "/.abq-stream-XXXXXX";
    fd_ = ::mkostemp(name.data(), O_CLOEXEC);
    if (fd_ >= 0) ::unlink(name.c_str());
  }
  if (fd_ < 0) return failure("make", errno);
  return reserve(bytes);
}

// Asked for at once, so that a full disk shows before hours of work and not after.
Status Stream::Storage::File::reserve(int64_t bytes) {
  if (bytes == 0) return {};
  int result = 0;
  do {
    result = ::fallocate(fd_, 0, 0, bytes);
  } while (result != 0 && errno == EINTR);
  if (result != 0 && errno == EOPNOTSUPP) result = ::ftruncate(fd_, bytes);
  if (result == 0) return {};
  return io_error(
      "{}: no room for {} bytes of hidden states: {}; free that much space, or use fewer "
      "calibration windows or more memory",
      folder_, bytes, std::strerror(errno));
}

Status Stream::Storage::File::read(int64_t offset, std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pread(fd_, bytes.data(), bytes.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return failure("read", count < 0 ? errno : ENODATA);
    bytes = bytes.subspan(static_cast<size_t>(count));
    offset += count;
  }
  return {};
}

Status Stream::Storage::File::write(int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(fd_, bytes.data(), bytes.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return failure("write", count < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(count));
    offset += count;
  }
  return {};
}

Result<std::shared_ptr<Stream::Storage>> Stream::Storage::in_memory(
    int64_t bytes, StreamOptions::Precision precision) {
  return std::shared_ptr<Storage>(std::make_shared<Memory>(bytes, precision));
}

Result<std::shared_ptr<Stream::Storage>> Stream::Storage::in_file(int64_t bytes,
                                                                  const StreamOptions& options) {
  auto file = std::make_shared<File>(options.spill_folder, options.precision);
  ABQ_RETURN_IF_ERROR(file->open(bytes));
  return std::shared_ptr<Storage>(std::move(file));
}

namespace {

// Elements converted at a time: small enough for a cache, large enough for one system call each.
constexpr size_t kChunk = 1 << 16;

int64_t element_bytes(StreamOptions::Precision precision) {
  return precision == StreamOptions::Precision::kBFloat16 ? 2 : 4;
}

}  // namespace

Result<Stream> Stream::create(int64_t windows, int64_t context, int64_t hidden,
                              const StreamOptions& options) {
  ABQ_CHECK(windows >= 0 && context >= 0 && hidden >= 0);
  Stream stream;
  stream.windows_ = windows;
  stream.context_ = context;
  stream.hidden_ = hidden;
  const int64_t bytes = windows * context * hidden * element_bytes(options.precision);
  ABQ_ASSIGN_OR_RETURN(stream.storage_, options.spill_folder.empty()
                                            ? Storage::in_memory(bytes, options.precision)
                                            : Storage::in_file(bytes, options));
  return stream;
}

Status Stream::read(int64_t first, int64_t count, std::span<float> values) const {
  ABQ_CHECK(first >= 0 && count >= 0 && first + count <= windows_);
  const int64_t window = context_ * hidden_;
  ABQ_CHECK(static_cast<int64_t>(values.size()) == count * window);
  if (values.empty()) return {};
  if (storage_->precision() == StreamOptions::Precision::kFloat32)
    return storage_->read(first * window * 4, std::as_writable_bytes(values));
  std::vector<uint16_t> halves(std::min(kChunk, values.size()));
  for (int64_t offset = first * window * 2; !values.empty();) {
    const size_t size = std::min(kChunk, values.size());
    const std::span<uint16_t> chunk(halves.data(), size);
    ABQ_RETURN_IF_ERROR(storage_->read(offset, std::as_writable_bytes(chunk)));
    std::transform(chunk.begin(), chunk.end(), values.begin(), bf16_to_float);
    values = values.subspan(size);
    offset += static_cast<int64_t>(chunk.size_bytes());
  }
  return {};
}

Status Stream::write(int64_t first, int64_t count, std::span<const float> values) {
  ABQ_CHECK(first >= 0 && count >= 0 && first + count <= windows_);
  const int64_t window = context_ * hidden_;
  ABQ_CHECK(static_cast<int64_t>(values.size()) == count * window);
  if (values.empty()) return {};
  if (storage_->precision() == StreamOptions::Precision::kFloat32)
    return storage_->write(first * window * 4, std::as_bytes(values));
  std::vector<uint16_t> halves(std::min(kChunk, values.size()));
  for (int64_t offset = first * window * 2; !values.empty();) {
    const size_t size = std::min(kChunk, values.size());
    const std::span<uint16_t> chunk(halves.data(), size);
    std::transform(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(size),
                   chunk.begin(), float_to_bf16);
    ABQ_RETURN_IF_ERROR(storage_->write(offset, std::as_bytes(chunk)));
    values = values.subspan(size);
    offset += static_cast<int64_t>(chunk.size_bytes());
  }
  return {};
}

}  // namespace abq::passes
