// What the kernels' arguments point to: weight tiles, quantized tokens, outputs
// (docs/cuda_runtime.md has the pictures). Plain structs of device pointers, passed to kernels by
// value.
//
// The header stands alone (no fmt, no std::span): nvcc includes it as well as the host compiler.
#pragma once

#include <cstdint>

// Index arithmetic that kernels and host code share.
#ifdef __CUDACC__
#define ABQ_HOST_DEVICE_INLINE __host__ __device__ inline
#else
#define ABQ_HOST_DEVICE_INLINE inline
#endif

namespace abq::runtime::cuda {

inline constexpr int kTileRows = 16;
inline constexpr int kTileDepth = 256;
inline constexpr int kLanes = 32;
// Columns of the matrix instructions of decode kernels. Buffers of at most as many tokens are
// allocated for this many, larger ones for whole multiples of kTokenPadding; what lies beyond token
// m - 1 is arbitrary and never reaches an output.
inline constexpr int kTokenColumns = 8;
inline constexpr int kTokenPadding = 256;
// Tokens of a block of planes, when there are more than kTokenColumns.
inline constexpr int kPlaneBlockTokens = 128;

ABQ_HOST_DEVICE_INLINE constexpr int tiles_of(int64_t count, int size) {
  return static_cast<int>((count + size - 1) / size);
}
// Input of a tile that bit 8 b + s of word (t, h) stands for.
ABQ_HOST_DEVICE_INLINE constexpr int tile_input(int s, int h, int t, int b) {
  return 32 * s + 16 * h + 4 * t + b;
}

// The form of the codes of a weight matrix [n, k].
enum class TileEncoding : int {
  kPlanes,  // [n tile][k tile][plane][lane][4 words]
  kBase5,   // runtime/cuda/linear/base5_tiles.h
};

// Rows beyond n and inputs beyond k have code 0; rows beyond n have scale 0.
struct WeightTiles {
  TileEncoding encoding = TileEncoding::kPlanes;
  int n = 0;
  int k = 0;
  int planes = 0;      // bits of a code
  int group_size = 0;  // 0 = per channel
  int groups = 1;
  // Rows 0..7 of each tile are gates, 8..15 the ups of the same outputs: y has n / 2 columns.
  bool gated = false;
  const uint32_t* tiles = nullptr;
  // [n tile][group][16]. A weight is scale * (denominator * code - zero): scales are the artifact's
  // divided by the denominator of its zero points (2 for binary weights, else 1).
  int denominator = 1;
  const float* scales = nullptr;
  const int32_t* zeros = nullptr;
  const int32_t* sums = nullptr;  // of the group's codes

  int64_t tile_bytes = 0;  // of `tiles`
};

// Quantized activations of m tokens: scale * (code - zero). A null pointer is a form that no
// consumer reads.
struct TokenTiles {
  int m = 0;
  int k = 0;
  int bits = 8;
  // At most kTokenColumns: [m][k tiles][bits][t][h]; more: [m / 128][k tiles][bits][t / 2][m % 128]
  // [t % 2][h]. Codes beyond k arbitrary.
  uint32_t* planes = nullptr;
  uint8_t* codes = nullptr;       // [m / 8][16 * k tiles][8][16], codes beyond k arbitrary
  float* scales = nullptr;        // [m]
  int32_t* zeros = nullptr;       // [m]
  int32_t* sums = nullptr;        // [m], of all codes
  int32_t* group_sums = nullptr;  // [m][8 * k tiles], of 32 codes each (0 beyond k)
};

// Float activations for the half kernels: x = scale * (high + low), high and low in float16. In
// each four consecutive inputs the order is 0, 2, 1, 3.
struct HalfTokens {
  int m = 0;
  int k = 0;
  uint16_t* halves = nullptr;  // [m][2: high, low][256 * k tiles], 0 beyond k
  float* scales = nullptr;     // [m], powers of two
};

// y [m, columns] = product (+ residual); gated tiles: silu(gate) * up.
struct LinearOutput {
  float* y = nullptr;
  int64_t stride = 0;               // floats between rows of y
  const float* residual = nullptr;  // rows `residual_stride` apart; may be y itself
  int64_t residual_stride = 0;
  // When set, nothing but this is written: sums [m][n][groups] of qx qw (tests). Rows in the order
  // of the parts: gates, then ups.
  int64_t* raw = nullptr;
};

// Device memory that kernels of one stream share: undefined before and after each launch.
struct Workspace {
  void* data = nullptr;
  int64_t bytes = 0;
};

}  // namespace abq::runtime::cuda
