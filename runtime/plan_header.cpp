#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <cstring>

#include "runtime/plan_checks.h"
#include "support/checksum.h"

namespace abq::runtime {
namespace {

// What every format version shares: the magic, the version and the header's size come first, and
// the header ends with the checksum of what is before it.
constexpr uint64_t kChecksumBytes = sizeof(uint64_t);

Status check_magic(std::span<const std::byte> file) {
  if (file.size() >= sizeof(proto::kMagic) &&
      std::memcmp(file.data(), proto::kMagic, sizeof(proto::kMagic)) != 0) {
    return corrupt(
        "does not start with the bytes of an artifact (89 41 42 51 0d 0a 1a 0a); it is "
        "not a model.abq, or a transfer changed its line ends");
  }
  if (file.size() < sizeof(proto::ArtifactHeader)) {
    return corrupt(
        "has {} bytes, fewer than the {} of the header; it was cut off or never finished",
        file.size(), sizeof(proto::ArtifactHeader));
  }
  return {};
}

Status check_header_checksum(std::span<const std::byte> file, uint64_t header_size) {
  if (header_size < sizeof(proto::ArtifactHeader) || header_size > file.size() ||
      header_size % kChecksumBytes != 0) {
    return corrupt("header size is {}, expected at least {} and at most the file's {} bytes",
                   header_size, sizeof(proto::ArtifactHeader), file.size());
  }
  const std::span<const std::byte> covered = file.first(header_size - kChecksumBytes);
  uint64_t stored = 0;
  std::memcpy(&stored, file.data() + covered.size(), sizeof(stored));
  const uint64_t computed = checksum64(covered);
  if (stored != computed)
    return corrupt("header checksum is {:016x}, expected {:016x}", computed, stored);
  return {};
}

// One case per format version that this build reads.
Status check_version(const proto::ArtifactHeader& header) {
  switch (header.format_version) {
    case 0:
      return corrupt("format version 0 does not exist; versions start at 1");
    case 1:
      break;
    default:
      return unsupported(
          "format version {} is newer than this build reads ({}); use the abq that wrote it or a "
          "later one",
          header.format_version, proto::kFormatVersion);
  }
  if (header.header_size != sizeof(proto::ArtifactHeader)) {
    return corrupt("header size is {}, expected {} in format version 1", header.header_size,
                   sizeof(proto::ArtifactHeader));
  }
  if (header.reserved != 0)
    return corrupt("reserved header field is {}, expected 0", header.reserved);
  return {};
}

Status check_plan_range(const proto::ArtifactHeader& header, uint64_t actual_size) {
  if (header.file_size != actual_size) {
    return corrupt("has {} bytes, expected {}; it was {}", actual_size, header.file_size,
                   actual_size < header.file_size ? "cut off" : "extended");
  }
  if (header.plan_offset % proto::kBlobAlignment != 0) {
    return corrupt("plan starts at byte {}, expected a multiple of {}", header.plan_offset,
                   proto::kBlobAlignment);
  }
  if (header.plan_offset < header.header_size || header.plan_offset > header.file_size) {
    return corrupt("plan starts at byte {}, expected a place between the header and the end ({})",
                   header.plan_offset, header.file_size);
  }
  if (header.plan_size != header.file_size - header.plan_offset) {
    return corrupt("plan has {} bytes, expected the {} from its start to the end of the file",
                   header.plan_size, header.file_size - header.plan_offset);
  }
  if (header.plan_size > kMaxPlanBytes)
    return corrupt("plan has {} bytes, expected at most {}", header.plan_size, kMaxPlanBytes);
  return {};
}

}  // namespace

Result<proto::ArtifactHeader> check_header(std::span<const std::byte> file) {
  ABQ_RETURN_IF_ERROR(check_magic(file));
  proto::ArtifactHeader header;
  std::memcpy(&header, file.data(), sizeof(header));
  ABQ_RETURN_IF_ERROR(check_header_checksum(file, header.header_size));
  ABQ_RETURN_IF_ERROR(check_version(header));
  ABQ_RETURN_IF_ERROR(check_plan_range(header, file.size()));
  return header;
}

Result<proto::Plan> parse_plan(std::span<const std::byte> file,
                               const proto::ArtifactHeader& header) {
  const std::span<const std::byte> bytes = file.subspan(header.plan_offset, header.plan_size);
  const uint64_t computed = checksum64(bytes);
  if (computed != header.plan_checksum) {
    return corrupt("plan checksum is {:016x}, expected {:016x}; copy or compile the file again",
                   computed, header.plan_checksum);
  }
  proto::Plan plan;
  // The refusal below says it; the library's own words on stderr would only repeat it.
  const google::protobuf::LogSilencer silencer;
  if (!plan.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return corrupt("plan is not a well-formed Plan message");
  if (plan.format_version() != header.format_version) {
    return corrupt("plan says format version {}, the header {}", plan.format_version(),
                   header.format_version);
  }
  return plan;
}

}  // namespace abq::runtime
