#include "tools/work_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <string_view>

#include "support/checksum.h"
#include "support/mapped_file.h"

namespace abq::tools {
namespace {

constexpr std::string_view kMagic = "ABQWORK1";
constexpr size_t kHeaderBytes = 24;

void append_u64(std::string& bytes, uint64_t value) {
  for (int shift = 0; shift < 64; shift += 8)
    bytes.push_back(static_cast<char>((value >> shift) & 0xff));
}

uint64_t read_u64(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i)
    value |= static_cast<uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  return value;
}

uint64_t checksum(std::string_view bytes) {
  return checksum64(std::as_bytes(std::span(bytes)));
}

// Closed with its owner.
struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

Status write_whole_file(const std::string& path, std::string_view bytes) {
  const Descriptor file{::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666)};
  if (file.fd < 0) return io_error("{}: cannot create: {}", path, std::strerror(errno));
  while (!bytes.empty()) {
    const ssize_t count = ::write(file.fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      return io_error("{}: cannot write {} bytes: {}", path, bytes.size(),
                      std::strerror(count < 0 ? errno : ENOSPC));
    }
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  if (::fsync(file.fd) != 0)
    return io_error("{}: cannot flush to disk: {}", path, std::strerror(errno));
  return {};
}

}  // namespace

void sync_folder(const std::string& path) {
  const Descriptor folder{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  // Some network file systems refuse; the files themselves are safe by then.
  if (folder.fd >= 0) (void)::fsync(folder.fd);
}

Status write_message_file(const std::string& path, const google::protobuf::MessageLite& message) {
  if (message.ByteSizeLong() > std::numeric_limits<int>::max())
    return unsupported("{}: {} bytes exceed what a work file holds (2 GiB); give --no-resume", path,
                       message.ByteSizeLong());
  const std::string payload = message.SerializeAsString();
  std::string bytes(kMagic);
  append_u64(bytes, payload.size());
  append_u64(bytes, checksum(payload));
  bytes += payload;
  const std::string unfinished = path + ".new";
  ABQ_RETURN_IF_ERROR(write_whole_file(unfinished, bytes));
  if (std::rename(unfinished.c_str(), path.c_str()) != 0)
    return io_error("{}: cannot rename {} to it: {}", path, unfinished, std::strerror(errno));
  const std::string folder = std::filesystem::path(path).parent_path().string();
  sync_folder(folder.empty() ? "." : folder);
  return {};
}

Status read_message_file(const std::string& path, google::protobuf::MessageLite& message) {
  const Result<std::string> bytes = read_text_file(path);
  if (!bytes.ok()) return bytes.status();
  const std::string_view view(*bytes);
  if (view.substr(0, kMagic.size()) != kMagic)
    return corrupt("{}: does not start like a work file", path);
  if (view.size() < kHeaderBytes) return corrupt("{}: ends inside its header", path);
  const std::string_view payload = view.substr(kHeaderBytes);
  const uint64_t size = read_u64(view.substr(kMagic.size()));
  if (payload.size() != size) {
    return corrupt("{}: holds {} bytes behind its header, expected {}", path, payload.size(), size);
  }
  if (checksum(payload) != read_u64(view.substr(kMagic.size() + 8)))
    return corrupt("{}: its bytes do not match its checksum", path);
  if (!message.ParseFromArray(payload.data(), static_cast<int>(payload.size())))
    return corrupt("{}: its message cannot be read", path);
  return {};
}

}  // namespace abq::tools
