// A file that exists under no name, or a hidden one, until it is complete.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "support/status.h"

namespace abq::backend {

// Where the file system allows it (O_TMPFILE) the file has no name before publish(): however the
// process ends, nothing stays behind. Elsewhere it is `.<name>.<pid>.<n>.tmp` in the target's
// folder, which the destructor and remove_named_temporary_files() unlink.
class TemporaryFile {
 public:
  // InvalidArgument when `path` exists without `overwrite` or is no regular file; Io or NotFound
  // when its folder cannot be written to. `named` asks for a name even where none is needed.
  static Result<std::unique_ptr<TemporaryFile>> create(const std::string& path, bool overwrite,
                                                       bool named);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  // Where this process can open the unpublished file.
  const std::string& readable_path() const { return readable_path_; }
  // Writes all bytes; Io says how many were wanted where, and why the system refused.
  Status write_at(uint64_t offset, std::span<const std::byte> bytes);
  // Cuts or extends (with zeros) to `size` bytes.
  Status resize(uint64_t size);
  // Flushes to disk and gives the file its final name, at once and whole. Called once, last.
  Status publish();

 private:
  TemporaryFile(std::string path, bool overwrite) : path_(std::move(path)), overwrite_(overwrite) {}
  Status open_anonymous();
  Status open_named();
  // Gives the anonymous file the hidden name, from which a rename can replace the target.
  Status link_hidden_name();
  Status sync_folder() const;

  std::string path_;
  std::string readable_path_;
  std::string hidden_path_;  // empty while there is no hidden name
  bool overwrite_ = false;
  int fd_ = -1;
};

}  // namespace abq::backend
