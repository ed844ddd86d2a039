// A loaded artifact: the checked plan and the mapped bytes of its blobs. The reader trusts nothing.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "proto/plan.pb.h"
#include "quant/scheme.h"
#include "support/mapped_file.h"
#include "support/status.h"

namespace abq::runtime {

// How much of the file is read before it is used.
enum class Verify {
  kAll,   // every checksum and all padding: any flipped byte is found
  kPlan,  // header and plan only: for a file that this process has just written
};

// What the values of a blob must obey, from the steps that read it.
struct BlobContents {
  bool positive_floats = false;  // scales, rope frequencies: finite float32 above 0
  int max_byte = 255;            // zero points: at most the highest code of their weights
};

// The quantizer that a plan's record names.
quant::WeightSpec weight_spec(const proto::QuantizedWeights& weights);

class LoadedPlan {
 public:
  // Opens and checks an artifact. Every refusal has its own sentence: Corrupt (cut file, wrong
  // magic, checksum, offsets, padding, indices out of range, shapes that contradict each other),
  // Unsupported (newer format version, unknown step: says what would read it), NotFound, Io.
  static Result<std::shared_ptr<const LoadedPlan>> open(const std::string& path, Verify verify);

  const proto::Plan& plan() const { return plan_; }
  const std::string& path() const { return file_->path(); }
  int64_t file_size() const { return static_cast<int64_t>(file_->bytes().size()); }
  std::span<const std::byte> blob_bytes(uint32_t blob) const;
  // Checks one blob's checksum, and its values where a step asks something of them (scales, zero
  // points, frequencies).
  Status verify_blob(uint32_t blob) const;
  // Lets the mapped pages of a blob go (a device has its own copy).
  void drop_blob_pages(uint32_t blob) const;

 private:
  LoadedPlan() = default;
  Status verify_everything(uint64_t plan_offset) const;

  std::shared_ptr<const MappedFile> file_;
  proto::Plan plan_;
  std::vector<BlobContents> contents_;  // one per blob
};

}  // namespace abq::runtime
