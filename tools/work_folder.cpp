#include "tools/work_folder.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "backend/backend.h"
#include "tools/fingerprint.h"
#include "tools/work_files.h"

namespace abq::tools {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are stored as they lie");

constexpr std::string_view kSuffix = ".abqwork";
constexpr std::string_view kUnfinishedSuffix = ".abqwork.new";
constexpr std::string_view kBlockPrefix = "block-";
constexpr std::string_view kFingerprintName = "fingerprint.abqwork";
constexpr std::string_view kUnfinishedFingerprint = "fingerprint.abqwork.new";
constexpr std::string_view kLockName = "lock.abqwork";
constexpr std::string_view kAdvice = "delete the folder or give --restart to learn afresh";

std::string join_path(const std::string& folder, std::string_view name) {
  return fmt::format("{}/{}", folder, name);
}

proto::LearnedBlock stored_form(const std::string& block, const std::string& fingerprint_digest,
                                const passes::LearnedBlock& learned) {
  proto::LearnedBlock stored;
  stored.set_block(block);
  stored.set_fingerprint_digest(fingerprint_digest);
  for (const passes::LearnedTensor& tensor : learned.tensors) {
    proto::LearnedTensor& added = *stored.add_tensors();
    added.set_name(tensor.name);
    added.set_rows(tensor.rows);
    added.set_cols(tensor.cols);
    added.set_values(tensor.values.data(), tensor.values.size() * sizeof(float));
  }
  backend::to_proto(learned.report, stored.mutable_report());
  return stored;
}

// rows * cols floats, without overflow on hostile numbers.
bool has_room_for(const proto::LearnedTensor& tensor) {
  const auto floats = static_cast<int64_t>(tensor.values().size() / sizeof(float));
  if (tensor.values().size() % sizeof(float) != 0) return false;
  if (tensor.rows() < 0 || tensor.cols() < 0) return false;
  if (tensor.rows() == 0 || tensor.cols() == 0) return floats == 0;
  return floats % tensor.rows() == 0 && floats / tensor.rows() == tensor.cols();
}

Result<passes::LearnedBlock> learned_form(const proto::LearnedBlock& stored) {
  passes::LearnedBlock learned;
  for (const proto::LearnedTensor& tensor : stored.tensors()) {
    if (!has_room_for(tensor)) {
      return corrupt("tensor {}: {} bytes for {} x {} values", tensor.name(),
                     tensor.values().size(), tensor.rows(), tensor.cols());
    }
    passes::LearnedTensor& added = learned.tensors.emplace_back();
    added.name = tensor.name();
    added.rows = tensor.rows();
    added.cols = tensor.cols();
    added.values.resize(tensor.values().size() / sizeof(float));
    std::copy_n(tensor.values().data(), tensor.values().size(),
                reinterpret_cast<char*>(added.values.data()));
  }
  learned.report = backend::from_proto(stored.report());
  return learned;
}

}  // namespace

Result<std::unique_ptr<WorkFolder>> WorkFolder::open(const std::string& path,
                                                     const proto::Fingerprint& fingerprint,
                                                     bool restart) {
  std::error_code error;
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  if (!parent.empty() && !std::filesystem::is_directory(parent, error)) {
    return not_found("work folder {}: folder {} does not exist; create it first", path,
                     parent.string());
  }
  if (::mkdir(path.c_str(), 0777) != 0 && errno != EEXIST)
    return io_error("work folder {}: cannot create: {}", path, std::strerror(errno));
  if (!std::filesystem::is_directory(path, error))
    return invalid_argument("work folder {}: exists and is not a folder", path);

  std::unique_ptr<WorkFolder> folder(new WorkFolder(path));
  ABQ_RETURN_IF_ERROR(folder->lock());
  ABQ_RETURN_IF_ERROR(folder->take_up(fingerprint, restart));
  return folder;
}

void WorkFolder::discard(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return;
  WorkFolder folder(path);
  if (folder.lock().ok()) folder.remove();
}

WorkFolder::~WorkFolder() {
  // Without the lock it is another process's folder.
  if (lock_ >= 0 && !removed_ && block_files(kSuffix).empty()) remove();
  if (lock_ >= 0) ::close(lock_);
}

Status WorkFolder::lock() {
  const std::string name = join_path(path_, kLockName);
  for (;;) {
    const int fd = ::open(name.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    if (fd < 0) return io_error("{}: cannot create: {}", name, std::strerror(errno));
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      ::close(fd);
      if (error == EINTR) continue;
      if (error == EWOULDBLOCK) {
        return invalid_argument(
            "work folder {}: another compilation is at work in it; wait for it, or give "
            "another --work-dir",
            path_);
      }
      return io_error(
          "{}: cannot lock: {}; give a --work-dir on another file system, or --no-resume", name,
          std::strerror(error));
    }
    // A holder that finished meanwhile has deleted the file that was locked just now.
    struct stat held {};
    struct stat named {};
    if (::fstat(fd, &held) == 0 && ::stat(name.c_str(), &named) == 0 &&
        held.st_ino == named.st_ino && held.st_dev == named.st_dev) {
      lock_ = fd;
      return {};
    }
    ::close(fd);
  }
}

Status WorkFolder::take_up(const proto::Fingerprint& fingerprint, bool restart) {
  fingerprint_digest_ = digest(fingerprint);
  if (restart) ABQ_RETURN_IF_ERROR(discard_blocks());
  const std::string name = join_path(path_, kFingerprintName);
  // Where no block has been learned there is nothing to lose.
  if (!block_files(kSuffix).empty()) {
    proto::Fingerprint then;
    const Status read = read_message_file(name, then);
    if (!read.ok()) return Status(read.code(), fmt::format("{}; {}", read.message(), kAdvice));
    const std::vector<std::string> lines = differences(fingerprint, then);
    if (!lines.empty()) {
      return invalid_argument("work folder {} is of another compilation:\n  {}\n{}", path_,
                              fmt::join(lines, "\n  "), kAdvice);
    }
    return {};
  }
  return write_message_file(name, fingerprint);
}

Result<std::string> WorkFolder::block_file(const std::string& block) const {
  if (block.empty() || block.find('/') != std::string::npos ||
      block.find('\0') != std::string::npos)
    return invalid_argument("block '{}': its name cannot be a file name", block);
  return join_path(path_, fmt::format("{}{}{}", kBlockPrefix, block, kSuffix));
}

std::vector<std::string> WorkFolder::block_files(std::string_view ending) const {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path_, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kBlockPrefix) && name.ends_with(ending))
      files.push_back(entry.path().string());
  }
  return files;
}

Status WorkFolder::discard_blocks() {
  for (const std::string_view ending : {kSuffix, kUnfinishedSuffix}) {
    for (const std::string& file : block_files(ending)) {
      if (::unlink(file.c_str()) != 0 && errno != ENOENT)
        return io_error("{}: cannot delete: {}", file, std::strerror(errno));
    }
  }
  sync_folder(path_);
  return {};
}

Result<std::optional<passes::LearnedBlock>> WorkFolder::load(const std::string& block) {
  ABQ_ASSIGN_OR_RETURN(const std::string path, block_file(block));
  const auto refusal = [](const Status& status) {
    return Status(status.code(), fmt::format("{}; {}", status.message(), kAdvice));
  };
  proto::LearnedBlock stored;
  const Status read = read_message_file(path, stored);
  if (read.code() == StatusCode::kNotFound) return std::optional<passes::LearnedBlock>();
  if (!read.ok()) return refusal(read);
  if (stored.block() != block || stored.fingerprint_digest() != fingerprint_digest_)
    return refusal(corrupt("{}: is of another block or compilation", path));
  Result<passes::LearnedBlock> learned = learned_form(stored);
  if (!learned.ok()) return refusal(learned.status().with_context(path));
  ++loaded_blocks_;
  return std::optional<passes::LearnedBlock>(std::move(learned).value());
}

Status WorkFolder::save(const std::string& block, const passes::LearnedBlock& learned) {
  ABQ_ASSIGN_OR_RETURN(const std::string path, block_file(block));
  return write_message_file(path, stored_form(block, fingerprint_digest_, learned));
}

void WorkFolder::remove() {
  // Blocks before the fingerprint: whatever interrupts this, no block lies there without one. What
  // cannot be deleted stays; the artifact is whole either way.
  (void)discard_blocks();
  for (const std::string_view name : {kFingerprintName, kUnfinishedFingerprint, kLockName})
    ::unlink(join_path(path_, name).c_str());
  ::rmdir(path_.c_str());
  removed_ = true;
}

}  // namespace abq::tools
