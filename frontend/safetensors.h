// The safetensors file format, read by mmap.
//
//   +--------+------------------------+---------------------------------------+
//   | n: u64 | header: n bytes, JSON  | tensor bytes, little-endian, row-major |
//   +--------+------------------------+---------------------------------------+
//            {"name": {"dtype": "BF16", "shape": [N, K], "data_offsets": [begin, end]}, ...}
//
// Offsets count from the end of the header. By the format's rules the tensors cover the data part
// exactly: no overlap, no hole, nothing left over.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ir/types.h"
#include "support/mapped_file.h"
#include "support/status.h"

namespace abq::frontend {

struct SafetensorsEntry {
  std::string dtype;  // as in the file: "BF16", "I8", ...
  std::vector<int64_t> shape;
  size_t begin = 0;  // byte range in the file
  size_t end = 0;
};

class SafetensorsFile {
 public:
  // Reads and checks the header, never the tensors. NotFound or Io for the file; Corrupt when it
  // breaks a rule of the format; Unsupported for a dtype that the format does not list.
  static Result<SafetensorsFile> open(const std::string& path);

  const std::string& path() const { return file_->path(); }
  size_t size() const { return file_->bytes().size(); }
  const std::map<std::string, SafetensorsEntry>& entries() const { return entries_; }
  // Length and header: what identifies the tensors' names, types, shapes and places.
  std::span<const std::byte> header_bytes() const { return file_->bytes().first(header_end_); }

  // A tensor as a range of the mapped file. NotFound; Unsupported for dtypes other than F32, F16,
  // BF16 and I32. Bytes at an address that their type forbids (a header of odd length) are copied.
  Result<ir::Tensor> tensor(const std::string& name) const;

 private:
  SafetensorsFile(std::shared_ptr<const MappedFile> file, size_t header_end,
                  std::map<std::string, SafetensorsEntry> entries)
      : file_(std::move(file)), header_end_(header_end), entries_(std::move(entries)) {}

  std::shared_ptr<const MappedFile> file_;
  size_t header_end_;
  std::map<std::string, SafetensorsEntry> entries_;
};

}  // namespace abq::frontend
