// The bytes around the plan message in an artifact; docs/plan_format.md has the picture.
//
//   [0, 64)           header (below), written last
//   [64, plan)        blobs, each at a multiple of 64, zero padding between
//   [plan, end)       the Plan message, at a multiple of 64; the file ends with it
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace abq::proto {

inline constexpr uint32_t kFormatVersion = 1;
inline constexpr uint64_t kBlobAlignment = 64;

// Little-endian, 64 bytes. "\x89ABQ\r\n\x1a\n": like PNG's, it catches text-mode and 7-bit
// transfers.
struct ArtifactHeader {
  uint8_t magic[8];
  uint32_t format_version;
  uint32_t header_size;
  uint64_t plan_offset;
  uint64_t plan_size;
  uint64_t plan_checksum;  // XXH3-64 of the plan's bytes
  uint64_t file_size;
  uint64_t reserved;         // zero
  uint64_t header_checksum;  // XXH3-64 of the 56 bytes before it
};
static_assert(sizeof(ArtifactHeader) == 64);

inline constexpr uint8_t kMagic[8] = {0x89, 'A', 'B', 'Q', '\r', '\n', 0x1a, '\n'};

}  // namespace abq::proto
