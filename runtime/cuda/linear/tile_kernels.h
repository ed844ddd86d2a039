// Kernels that make weight tiles from rows as an artifact stores them: rows -> codes in bytes ->
// tiles and sums, a chunk of whole n-tiles at a time.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "runtime/cuda/views.h"

namespace abq::runtime::cuda {

// Codes of a chunk: [rows][256 * k tiles] bytes, 0 beyond k.
struct CodeRows {
  uint8_t* codes = nullptr;
  int64_t rows = 0;  // a multiple of 16
  int k = 0;
  int k_tiles = 0;
};

// Where rows of a part go: row j of the call to tile_row(gated, part, first, j) of the chunk.
struct RowMap {
  bool gated = false;
  int part = 0;
  int64_t first = 0;
  int64_t rows = 0;
  int64_t part_row = 0;  // row of the part that j = 0 is; for faults
};

// The first row of a part that shows a fault of a kind; untouched when there is none.
enum FaultKind : int { kWordFault, kPaddingFault, kScaleFault, kZeroFault, kFaultKinds };
using FirstRow = unsigned long long;
inline constexpr FirstRow kNoFault = ~FirstRow{0};

// Bit planes: `plane_bytes` a plane (a multiple of 16), plane after plane.
cudaError_t unpack_planes(const uint8_t* packed, int planes, int64_t plane_bytes, const RowMap& map,
                          const CodeRows& to, FirstRow* faults, cudaStream_t stream);
// Base 5 (3 codes in 7 bits) or base 3 (5 codes in 8 bits), rows of `row_bytes`.
cudaError_t unpack_dense(const uint8_t* packed, int base, int64_t row_bytes, const RowMap& map,
                         const CodeRows& to, FirstRow* faults, cudaStream_t stream);
cudaError_t random_codes(int levels, uint64_t seed, const RowMap& map, const CodeRows& to,
                         cudaStream_t stream);

// Scales (divided by the denominator) and zero points [rows][groups] -> [n tile][group][16].
cudaError_t place_params(const float* scales, const uint8_t* zeros, int groups, int denominator,
                         int levels, const RowMap& map, float* tile_scales, int32_t* tile_zeros,
                         FirstRow* faults, cudaStream_t stream);
// Scales that make products of random codes about as large as the activations.
cudaError_t random_params(int groups, int denominator, int levels, int k, const RowMap& map,
                          float* tile_scales, int32_t* tile_zeros, cudaStream_t stream);

// [n tile][group][16] sums of codes.
cudaError_t sum_codes(const CodeRows& from, int groups, int32_t* sums, cudaStream_t stream);
cudaError_t pack_plane_tiles(const CodeRows& from, int planes, uint32_t* tiles,
                             cudaStream_t stream);
cudaError_t pack_base5_tiles(const CodeRows& from, uint32_t* tiles, cudaStream_t stream);

}  // namespace abq::runtime::cuda
