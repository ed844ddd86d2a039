// Hidden states of all calibration windows between two blocks: in memory, or in a file where memory
// is short.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "support/status.h"

namespace abq::passes {

struct StreamOptions {
  enum class Precision { kFloat32, kBFloat16 };
  Precision precision = Precision::kFloat32;
  // Folder of the file that holds the stream; empty = memory. The file has no name.
  std::string spill_folder = {};
};

// [windows][context, hidden]; every element is written before it is read. Move-only.
class Stream {
 public:
  Stream() = default;  // no windows
  Stream(Stream&&) noexcept = default;
  Stream& operator=(Stream&&) noexcept = default;
  // Io names the folder when the file cannot be made or disk space is short.
  static Result<Stream> create(int64_t windows, int64_t context, int64_t hidden,
                               const StreamOptions& options);

  int64_t windows() const { return windows_; }
  int64_t context() const { return context_; }
  int64_t hidden() const { return hidden_; }
  bool empty() const { return windows_ == 0; }

  // Windows first .. first + count - 1, [count * context, hidden], as float32 (bf16 rounds half to
  // even when written).
  Status read(int64_t first, int64_t count, std::span<float> values) const;
  Status write(int64_t first, int64_t count, std::span<const float> values);

 private:
  class Storage;

  int64_t windows_ = 0;
  int64_t context_ = 0;
  int64_t hidden_ = 0;
  std::shared_ptr<Storage> storage_;
};

}  // namespace abq::passes
