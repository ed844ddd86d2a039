#include <algorithm>
#include <cmath>
#include <cstring>

#include "quant/packed_layout.h"
#include "runtime/plan_checks.h"

namespace abq::runtime {
namespace {

constexpr int kMaxCodeBits = 8;

bool packed(proto::ElementType type) {
  return type == proto::PLANES || type == proto::BASE5 || type == proto::BASE3;
}

uint64_t element_bytes(proto::ElementType type) {
  switch (type) {
    case proto::F32:
      return 4;
    case proto::F16:
    case proto::BF16:
      return 2;
    default:
      return 1;
  }
}

quant::Encoding encoding_of(proto::ElementType type) {
  if (type == proto::BASE5) return quant::Encoding::kBase5;
  if (type == proto::BASE3) return quant::Encoding::kBase3;
  return quant::Encoding::kPlanes;
}

Status check_type(const proto::Blob& blob) {
  if (!proto::ElementType_IsValid(blob.type()))
    return unsupported("element type {} is unknown to this build; use a later abq",
                       static_cast<int>(blob.type()));
  if (blob.type() == proto::ELEMENT_UNSPECIFIED) return corrupt("has no element type");
  if (!packed(blob.type())) {
    if (blob.code_bits() != 0)
      return corrupt("{} has code bits {}, expected none", describe(blob), blob.code_bits());
    return {};
  }
  if (blob.shape_size() != 2) return corrupt("{}: packed codes have 2 dimensions", describe(blob));
  const bool fits = blob.type() == proto::BASE5 ? blob.code_bits() == 3
                    : blob.type() == proto::BASE3
                        ? blob.code_bits() == 2
                        : blob.code_bits() >= 1 && blob.code_bits() <= kMaxCodeBits;
  if (!fits) {
    return corrupt("{} has code bits {}, expected 1 to 8 for PLANES, 3 for BASE5, 2 for BASE3",
                   describe(blob), blob.code_bits());
  }
  return {};
}

// Bytes that type and shape ask for; 0 when they are more than `limit`, which is checked before
// each product, so that none overflows.
uint64_t expected_bytes(const proto::Blob& blob, uint64_t limit) {
  if (packed(blob.type())) {
    const quant::PackedLayout layout{encoding_of(blob.type()), static_cast<int>(blob.code_bits()),
                                     blob.shape(0), blob.shape(1)};
    const uint64_t row = static_cast<uint64_t>(layout.row_bytes());
    return static_cast<uint64_t>(layout.n) > limit / row ? 0
                                                         : static_cast<uint64_t>(layout.n) * row;
  }
  uint64_t bytes = element_bytes(blob.type());
  for (const int64_t dimension : blob.shape()) {
    if (static_cast<uint64_t>(dimension) > limit / bytes) return 0;
    bytes *= static_cast<uint64_t>(dimension);
  }
  return bytes;
}

Status check_size(const proto::Blob& blob, uint64_t file_size) {
  if (blob.shape_size() == 0) return corrupt("has no dimensions");
  for (const int64_t dimension : blob.shape()) {
    if (dimension < 1 || dimension > kMaxDimension)
      return corrupt("dimension {} is outside 1 to {}", dimension, kMaxDimension);
  }
  const uint64_t expected = expected_bytes(blob, file_size);
  if (expected == 0)
    return corrupt("{} is larger than the file ({} bytes)", describe(blob), file_size);
  if (blob.size() != expected)
    return corrupt("has {} bytes, expected {} for {}", blob.size(), expected, describe(blob));
  return {};
}

// Blobs stand one after the other, each at the next multiple of 64: this refuses overlaps, wrong
// order and bytes that nobody owns.
Status check_place(const proto::Blob& blob, uint64_t end_of_previous, uint64_t plan_offset) {
  if (blob.offset() % proto::kBlobAlignment != 0) {
    return corrupt("starts at byte {}, expected a multiple of {}", blob.offset(),
                   proto::kBlobAlignment);
  }
  if (blob.offset() < end_of_previous) {
    return corrupt(
        "starts at byte {}, inside what ends at {}; blobs neither overlap nor change order",
        blob.offset(), end_of_previous);
  }
  if (blob.offset() > plan_offset || blob.size() > plan_offset - blob.offset()) {
    return corrupt("has {} bytes at {}, which reach past the start of the plan ({})", blob.size(),
                   blob.offset(), plan_offset);
  }
  if (blob.offset() - end_of_previous >= proto::kBlobAlignment) {
    return corrupt("starts at byte {}, expected {}: no bytes lie unused between blobs",
                   blob.offset(),
                   (end_of_previous + proto::kBlobAlignment - 1) / proto::kBlobAlignment *
                       proto::kBlobAlignment);
  }
  return {};
}

Status check_zero(std::span<const std::byte> file, uint64_t begin, uint64_t end) {
  for (uint64_t i = begin; i < end; ++i) {
    if (file[i] != std::byte{0})
      return corrupt("padding at byte {} is {:02x}, expected 00", i,
                     static_cast<unsigned>(file[i]));
  }
  return {};
}

}  // namespace

std::string describe(const proto::Blob& blob) {
  std::string shape;
  for (const int64_t dimension : blob.shape())
    shape += fmt::format("{}{}", shape.empty() ? "" : ", ", dimension);
  const std::string bits = packed(blob.type()) ? fmt::format("<{}>", blob.code_bits()) : "";
  return fmt::format("{}{}[{}]", proto::ElementType_Name(blob.type()), bits, shape);
}

std::string blob_label(const proto::Plan& plan, int index) {
  return fmt::format("blob {} ({})", index, plan.blobs(index).name());
}

Status check_blob_table(const proto::Plan& plan, const proto::ArtifactHeader& header) {
  uint64_t end = header.header_size;
  for (int i = 0; i < plan.blobs_size(); ++i) {
    const proto::Blob& blob = plan.blobs(i);
    const auto check = [&]() -> Status {
      ABQ_RETURN_IF_ERROR(check_type(blob));
      ABQ_RETURN_IF_ERROR(check_size(blob, header.file_size));
      return check_place(blob, end, header.plan_offset);
    };
    const Status checked = check();
    if (!checked.ok()) return checked.with_context(blob_label(plan, i));
    end = blob.offset() + blob.size();
  }
  if (header.plan_offset - end >= proto::kBlobAlignment) {
    return corrupt("plan starts at byte {}, more than {} after the last blob's end ({})",
                   header.plan_offset, proto::kBlobAlignment - 1, end);
  }
  return {};
}

Status check_padding(const proto::Plan& plan, std::span<const std::byte> file,
                     uint64_t plan_offset) {
  uint64_t end = sizeof(proto::ArtifactHeader);
  for (const proto::Blob& blob : plan.blobs()) {
    ABQ_RETURN_IF_ERROR(check_zero(file, end, blob.offset()));
    end = blob.offset() + blob.size();
  }
  return check_zero(file, end, plan_offset);
}

Status check_blob_contents(const BlobContents& contents, std::span<const std::byte> bytes) {
  if (contents.positive_floats) {
    for (size_t i = 0; i < bytes.size() / sizeof(float); ++i) {
      float value = 0;
      std::memcpy(&value, bytes.data() + i * sizeof(float), sizeof(float));
      if (!std::isfinite(value) || value <= 0)
        return corrupt("value {} is {}, expected a finite number above 0", i, value);
    }
  }
  if (contents.max_byte == 255) return {};
  for (size_t i = 0; i < bytes.size(); ++i) {
    const int value = std::to_integer<int>(bytes[i]);
    if (value > contents.max_byte) {
      return corrupt("zero point {} is {}, expected at most {}, the highest code", i, value,
                     contents.max_byte);
    }
  }
  return {};
}

}  // namespace abq::runtime
