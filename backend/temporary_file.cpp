#include "backend/temporary_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "backend/backend.h"

namespace abq::backend {
namespace {

// Hidden names in a form that a signal handler can read: fixed memory, a flag set after the name is
// whole and cleared before it changes.
struct HiddenName {
  std::atomic<bool> taken = false;
  std::atomic<bool> valid = false;
  std::array<char, 4096> path = {};
};
std::array<HiddenName, 8> hidden_names;
static_assert(std::atomic<bool>::is_always_lock_free);

// More files than slots, or a longer path than any system call takes, go unregistered: then only
// the destructor removes them.
void register_hidden_name(const std::string& path) {
  for (HiddenName& name : hidden_names) {
    if (path.size() >= name.path.size() || name.taken.exchange(true)) continue;
    std::copy(path.begin(), path.end(), name.path.begin());
    name.path[path.size()] = '\0';
    name.valid = true;
    return;
  }
}

void unregister_hidden_name(const std::string& path) {
  for (HiddenName& name : hidden_names) {
    if (!name.valid || path != name.path.data()) continue;
    name.valid = false;
    name.taken = false;
  }
}

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

std::string hidden_name_for(const std::string& path) {
  static std::atomic<int> counter = 0;
  const std::filesystem::path target(path);
  const std::string name =
      fmt::format(".{}.{}.{}.tmp", target.filename().string(), ::getpid(), counter++);
  return (target.parent_path() / name).string();
}

Status create_error(const std::string& path, int error) {
  if (error == ENOENT) {
    return not_found("{}: folder {} does not exist; create it first", path, folder_of(path));
  }
  return io_error("{}: cannot write in folder {}: {}", path, folder_of(path), std::strerror(error));
}

Status check_target(const std::string& path, bool overwrite) {
  if (std::filesystem::path(path).filename().empty())
    return invalid_argument("{}: names no file; give the path of the artifact to write", path);
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return {};
  if (!S_ISREG(info.st_mode)) return invalid_argument("{}: exists and is not a regular file", path);
  if (!overwrite) return invalid_argument("{}: exists; use --force to replace it", path);
  return {};
}

}  // namespace

Result<std::unique_ptr<TemporaryFile>> TemporaryFile::create(const std::string& path,
                                                             bool overwrite, bool named) {
  ABQ_RETURN_IF_ERROR(check_target(path, overwrite));
  std::unique_ptr<TemporaryFile> file(new TemporaryFile(path, overwrite));
  if (!named) {
    const Status opened = file->open_anonymous();
    if (opened.ok()) return file;
    if (opened.code() != StatusCode::kUnsupported) return opened;
  }
  ABQ_RETURN_IF_ERROR(file->open_named());
  return file;
}

TemporaryFile::~TemporaryFile() {
  if (fd_ >= 0) ::close(fd_);
  if (hidden_path_.empty()) return;
  ::unlink(hidden_path_.c_str());
  unregister_hidden_name(hidden_path_);
}

// Unsupported when the file system or a missing /proc asks for a named file instead.
Status TemporaryFile::open_anonymous() {
  fd_ = ::open(folder_of(path_).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
  if (fd_ < 0) {
    const int error = errno;
    if (error == EOPNOTSUPP || error == EISDIR || error == EINVAL)
      return unsupported("{}: no anonymous files here", path_);
    return create_error(path_, error);
  }
  readable_path_ = fmt::format("/proc/self/fd/{}", fd_);
  if (::access(readable_path_.c_str(), R_OK) == 0) return {};
  ::close(fd_);
  fd_ = -1;
  return unsupported("{}: anonymous files cannot be linked without /proc", path_);
}

Status TemporaryFile::open_named() {
  // A name that is taken was left by a dead process of the same id: the next counter value is free.
  for (;;) {
    std::string name = hidden_name_for(path_);
    register_hidden_name(name);
    fd_ = ::open(name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666);
    const int error = errno;
    if (fd_ >= 0) {
      hidden_path_ = name;
      readable_path_ = std::move(name);
      return {};
    }
    unregister_hidden_name(name);
    if (error != EEXIST && error != EINTR) return create_error(path_, error);
  }
}

Status TemporaryFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const char* reason = written < 0 ? std::strerror(errno) : "nothing was written";
      return io_error("{}: cannot write {} bytes at byte {}: {}; free that much space and retry",
                      path_, bytes.size(), offset, reason);
    }
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
  return {};
}

Status TemporaryFile::resize(uint64_t size) {
  while (::ftruncate(fd_, static_cast<off_t>(size)) != 0) {
    if (errno != EINTR)
      return io_error("{}: cannot resize to {} bytes: {}", path_, size, std::strerror(errno));
  }
  return {};
}

Status TemporaryFile::link_hidden_name() {
  for (;;) {
    const std::string name = hidden_name_for(path_);
    register_hidden_name(name);
    if (::linkat(AT_FDCWD, readable_path_.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) ==
        0) {
      hidden_path_ = name;
      return {};
    }
    const int error = errno;
    unregister_hidden_name(name);
    if (error != EEXIST) return create_error(path_, error);
  }
}

Status TemporaryFile::sync_folder() const {
  const int folder = ::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return create_error(path_, errno);
  // Some network file systems refuse to flush a folder; the file itself is safe by then.
  (void)::fsync(folder);
  ::close(folder);
  return {};
}

Status TemporaryFile::publish() {
  if (::fsync(fd_) != 0)
    return io_error("{}: cannot flush to disk: {}", path_, std::strerror(errno));
  ABQ_RETURN_IF_ERROR(check_target(path_, overwrite_));
  if (hidden_path_.empty() && !overwrite_) {
    // A link never replaces a file that appeared in the meantime.
    if (::linkat(AT_FDCWD, readable_path_.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) != 0)
      return io_error("{}: cannot create: {}", path_, std::strerror(errno));
    return sync_folder();
  }
  if (hidden_path_.empty()) ABQ_RETURN_IF_ERROR(link_hidden_name());
  if (::rename(hidden_path_.c_str(), path_.c_str()) != 0) {
    return io_error("{}: cannot rename {} to it: {}", path_, hidden_path_, std::strerror(errno));
  }
  unregister_hidden_name(hidden_path_);
  hidden_path_.clear();
  return sync_folder();
}

void remove_named_temporary_files() {
  for (const HiddenName& name : hidden_names) {
    if (name.valid) ::unlink(name.path.data());
  }
}

}  // namespace abq::backend
