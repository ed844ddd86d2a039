// Read-only memory-mapped files whose pages can be dropped after use (VmHWM counts mapped pages).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "support/status.h"

namespace abq {

class MappedFile {
 public:
  // NotFound when the file is missing, Io otherwise. An empty file maps to no bytes.
  static Result<std::shared_ptr<MappedFile>> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Tells the kernel that the pages wholly inside [offset, offset + size) are not needed for now;
  // reading them again is correct and costs a page fault.
  void drop_pages(size_t offset, size_t size) const;

 private:
  MappedFile(std::string path, const std::byte* data, size_t size)
      : path_(std::move(path)), data_(data), size_(size) {}

  std::string path_;
  const std::byte* data_;
  size_t size_;
};

// The whole of a small file; NotFound, or Io with the operating system's reason.
Result<std::string> read_text_file(const std::string& path);

}  // namespace abq
