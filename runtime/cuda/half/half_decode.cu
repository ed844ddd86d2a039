// The half kernel for few tokens: a block makes the 16 outputs of one row of weight tiles for up to
// 4, 8 or 32 tokens. Its warps take the tiles in turn and add up in shared memory, in the order
// of the warps.
#include "runtime/cuda/half/half_mma.cuh"

namespace abq::runtime::cuda {
namespace {

// Scales and zero points are copied to shared memory up to this many groups.
constexpr int kSharedGroups = 128;

constexpr int kDecodeWarps = 8;

// Units that a warp keeps on the way, so that some eight 16-byte loads a lane are.
ABQ_HOST_DEVICE_INLINE constexpr int decode_stages(int loads) {
  return loads > 4 ? 1 : loads == 4 ? 2 : 4;
}
// Steps whose activations are loaded together, one such batch ahead: 16 registers, 32 with 8 column
// blocks.
ABQ_HOST_DEVICE_INLINE constexpr int decode_batch(int column_blocks) {
  return column_blocks >= 4 ? 1 : 4 / column_blocks;
}

template <int kColumns>
struct Activations {
  __device__ __forceinline__ const uint16_t* tile(int k_tile) const {
    return data + static_cast<int64_t>(k_tile) * kTileDepth;
  }

  const uint16_t* data = nullptr;  // of column g, at this lane's inputs
  int64_t block_stride = 0;        // between columns g and g + 8
  bool exists[kColumns] = {};
};

template <int kColumns>
__device__ __forceinline__ Activations<kColumns> activations_of(const HalfTokens& tokens,
                                                                int first_token, int lane) {
  const int64_t stride = static_cast<int64_t>(tiles_of(tokens.k, kTileDepth)) * kTileDepth;
  const int column = 2 * first_token + lane / 4;
  Activations<kColumns> activations;
  activations.data = tokens.halves + column * stride + 4 * (lane % 4);
  activations.block_stride = 8 * stride;
#pragma unroll
  for (int c = 0; c < kColumns; ++c)
    activations.exists[c] = column + 8 * c < 2 * tokens.m;
  return activations;
}

// B operands of kBatch steps.
template <int kColumns>
struct Batch {
  static constexpr int kSteps = decode_batch(kColumns);
  uint2 values[kSteps][2][kColumns];

  // Those from step `first` of the tile at `tile` on.
  __device__ __forceinline__ void load(const Activations<kColumns>& x, const uint16_t* tile,
                                       int first) {
#pragma unroll
    for (int i = 0; i < kSteps * 2 * kColumns; ++i) {
      const int c = i % kColumns;
      const int h = i / kColumns % 2;
      const int s = i / kColumns / 2;
      const uint16_t* column = tile + c * x.block_stride;
      uint2 value = make_uint2(0, 0);
      if (x.exists[c]) {
        value = *reinterpret_cast<const uint2*>(column + (32 * (first + s) + 16 * h));
      }
      values[s][h][c] = value;
    }
  }
};

// Scales and zero points of a block's rows, [group][16].
struct Groups {
  const float* scales = nullptr;
  const int32_t* zeros = nullptr;
  int shift = 0;  // log2 of the steps that share them
};

// totals += (codes - zeros) of tile k_tile, the unit's tile number `tile`, times its activations,
// with groups times their scales too. batches[0] holds the first activations; at the end it holds
// the first of tile `next`. `row_zeros` are those of rows without groups.
template <class Codes, int kColumns, bool kGrouped>
__device__ __forceinline__ void multiply_tile(const WeightTiles& weights, int k_tile, int next,
                                              int lane, const typename Codes::State& state,
                                              int tile, const Activations<kColumns>& x,
                                              const Groups& groups, const ZeroPair& row_zeros,
                                              Batch<kColumns> (&batches)[2],
                                              float (&totals)[kColumns][4]) {
  constexpr int kBatch = Batch<kColumns>::kSteps;
  const int g = lane / 4;
  const int last = (1 << groups.shift) - 1;  // step of a group
  const uint16_t* const here = x.tile(k_tile);
  float acc[kColumns][4];
  ZeroPair minus = row_zeros;
  const float* scale = nullptr;
#pragma unroll
  for (int s = 0; s < kHalfSteps; ++s) {
    const int batch = s / kBatch;
    if (s % kBatch == 0) {
      if (s + kBatch < kHalfSteps)
        batches[(batch + 1) % 2].load(x, here, s + kBatch);
      else
        batches[0].load(x, x.tile(next), 0);
    }
    if (kGrouped ? (s & last) == 0 : s == 0) {
      if (kGrouped) {
        const int entry = group_entry(weights, k_tile, s, groups.shift);
        minus = zero_pair(groups.zeros + entry, g);
        scale = groups.scales + entry + g;
      }
#pragma unroll
      for (int i = 0; i < kColumns * 4; ++i)
        acc[i / 4][i % 4] = 0;
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      uint32_t a[4];
      expand_step<Codes>(state, minus, tile, s, h, a);
#pragma unroll
      for (int c = 0; c < kColumns; ++c)
        half_mma(acc[c], a, batches[batch % 2].values[s % kBatch][h][c]);
    }
    if (kGrouped ? (s & last) == last : s == kHalfSteps - 1) {
#pragma unroll
      for (int i = 0; i < kColumns * 4; ++i) {
        const float sum = acc[i / 4][i % 4];
        totals[i / 4][i % 4] += kGrouped ? scale[i % 4 / 2 * 8] * sum : sum;
      }
    }
  }
}

// Adds the warps' totals in order and writes the outputs.
template <int kColumns>
__device__ __forceinline__ void reduce_and_store(const HalfArguments& arguments, int n_tile,
                                                 int first_token,
                                                 const float (&totals)[kColumns][4], float* sums) {
  constexpr int kSums = kColumns * kLanes;  // pairs: rows g and g + 8
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    float* at = sums + (warp * 2 * kColumns + 2 * c) * kLanes + lane;
    at[0] = totals[c][0] + totals[c][1];  // high and low part of token lane % 4
    at[kLanes] = totals[c][2] + totals[c][3];
  }
  __syncthreads();
  const int warps = static_cast<int>(blockDim.x) / kLanes;
  for (int i = static_cast<int>(threadIdx.x); i < kSums; i += static_cast<int>(blockDim.x)) {
    const int c = i / kLanes;
    float first = 0;
    float second = 0;
    for (int w = 0; w < warps; ++w) {
      const float* at = sums + (w * 2 * kColumns + 2 * c) * kLanes + lane;
      first += at[0];
      second += at[kLanes];
    }
    const int token = first_token + kHalfColumnTokens * c + lane % 4;
    if (token < arguments.tokens.m)
      store_outputs(arguments, n_tile, lane / 4, token, first, second);
  }
}

// The groups of the block's rows, in shared memory unless there are very many.
__device__ __forceinline__ Groups share_groups(const WeightTiles& weights, int n_tile,
                                               float* shared) {
  const int entries = weights.groups * kTileRows;
  Groups groups;
  groups.scales = weights.scales + static_cast<int64_t>(n_tile) * entries;
  groups.zeros = weights.zeros + static_cast<int64_t>(n_tile) * entries;
  groups.shift = group_shift(weights);
  if (weights.groups > kSharedGroups) return groups;
  int32_t* zeros = reinterpret_cast<int32_t*>(shared) + entries;
  for (int i = static_cast<int>(threadIdx.x); i < entries; i += static_cast<int>(blockDim.x)) {
    shared[i] = groups.scales[i];
    zeros[i] = groups.zeros[i];
  }
  groups.scales = shared;
  groups.zeros = zeros;
  return groups;
}

template <class Codes, int kColumns, bool kGrouped>
__global__ void __launch_bounds__(kLanes* kDecodeWarps, kColumns == 1 ? 2 : 1)
    half_decode(const HalfArguments arguments) {
  constexpr int kStages = decode_stages(Codes::kLoads);
  extern __shared__ float shared[];  // sums, then scales and zero points
  const WeightTiles& weights = arguments.weights;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const int warps = static_cast<int>(blockDim.x) / kLanes;
  const int n_tile = static_cast<int>(blockIdx.x);
  const int first_token = static_cast<int>(blockIdx.y) * kColumns * kHalfColumnTokens;
  const int k_tiles = tiles_of(weights.k, kTileDepth);
  const int units = Codes::units(k_tiles);

  uint32_t words[kStages][Codes::kLoads][4];
#pragma unroll
  for (int i = 0; i < kStages; ++i) {
    const int unit = warp + i * warps;
    load_unit<Codes>(weights, n_tile, unit, unit < units, lane, words[i]);
  }
  release_next();
  const Groups groups = share_groups(weights, n_tile, shared + warps * 2 * kColumns * kLanes);
  __syncthreads();
  const ZeroPair row_zeros = zero_pair(groups.zeros, lane / 4);
  wait_for_previous();

  const Activations<kColumns> x = activations_of<kColumns>(arguments.tokens, first_token, lane);
  Batch<kColumns> batches[2];
  batches[0].load(x, x.tile(warp * Codes::kUnitTiles), 0);
  float totals[kColumns][4] = {};
  for (int first = warp; first < units; first += kStages * warps) {
#pragma unroll
    for (int i = 0; i < kStages; ++i) {
      const int unit = first + i * warps;
      if (unit >= units) break;
      const int tiles = Codes::tiles(k_tiles, unit);
      typename Codes::State state;
      Codes::gather(tiles, words[i], state);
      const int later = unit + kStages * warps;
      load_unit<Codes>(weights, n_tile, later, later < units, lane, words[i]);
#pragma unroll
      for (int tile = 0; tile < Codes::kUnitTiles; ++tile) {
        if (tile >= tiles) break;
        const int k_tile = unit * Codes::kUnitTiles + tile;
        int next = tile + 1 < tiles ? k_tile + 1 : (unit + warps) * Codes::kUnitTiles;
        if (next >= k_tiles) next = k_tile;
        multiply_tile<Codes, kColumns, kGrouped>(weights, k_tile, next, lane, state, tile, x,
                                                 groups, row_zeros, batches, totals);
      }
    }
  }
  if (!kGrouped) {
    const float* scale = groups.scales + lane / 4;
#pragma unroll
    for (int i = 0; i < kColumns * 4; ++i)
      totals[i / 4][i % 4] *= scale[i % 4 / 2 * 8];
  }
  reduce_and_store<kColumns>(arguments, n_tile, first_token, totals, shared);
}

template <class Codes, int kColumns>
cudaError_t launch_columns(const HalfArguments& arguments, cudaStream_t stream) {
  const WeightTiles& weights = arguments.weights;
  const int units = Codes::units(tiles_of(weights.k, kTileDepth));
  const int warps = units < kDecodeWarps ? units : kDecodeWarps;
  const int groups = weights.groups > kSharedGroups ? 0 : weights.groups;
  LaunchShape shape;
  shape.grid =
      dim3(static_cast<unsigned>(tiles_of(weights.n, kTileRows)),
           static_cast<unsigned>(tiles_of(arguments.tokens.m, kColumns * kHalfColumnTokens)));
  shape.block = dim3(static_cast<unsigned>(warps * kLanes));
  shape.shared_bytes = static_cast<unsigned>(
      (warps * 2 * kColumns * kLanes + groups * kTileRows * 2) * static_cast<int>(sizeof(float)));
  if (weights.group_size == 0)
    return launch(half_decode<Codes, kColumns, false>, shape, stream, arguments);
  return launch(half_decode<Codes, kColumns, true>, shape, stream, arguments);
}

template <class Codes>
cudaError_t launch_codes(const HalfArguments& arguments, cudaStream_t stream) {
  const int m = arguments.tokens.m;
  if (m <= 4) return launch_columns<Codes, 1>(arguments, stream);
  if (m <= 8) return launch_columns<Codes, 2>(arguments, stream);
  return launch_columns<Codes, 8>(arguments, stream);
}

}  // namespace

cudaError_t launch_half_decode(const HalfArguments& arguments, cudaStream_t stream) {
  if (arguments.weights.encoding == TileEncoding::kBase5)
    return launch_codes<Base5HalfCodes>(arguments, stream);
  const int planes = arguments.weights.planes;
  if (planes == 1) return launch_codes<PlaneCodes<1>>(arguments, stream);
  if (planes == 2) return launch_codes<PlaneCodes<2>>(arguments, stream);
  if (planes <= 4) return launch_codes<PlaneCodes<4>>(arguments, stream);
  return launch_codes<PlaneCodes<8>>(arguments, stream);
}

}  // namespace abq::runtime::cuda
