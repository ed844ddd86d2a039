// The half kernel for many tokens: a block makes 128 outputs for 32 tokens. Each of its 4 warps
// turns two rows of weight tiles into float16 once for all 64 columns, which asynchronous copies
// bring to shared memory, 64 inputs at a time.
#include "runtime/cuda/half/half_mma.cuh"

namespace abq::runtime::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kRowTiles = 2;  // a warp
constexpr int kColumnBlocks = 8;
constexpr int kColumns = 8 * kColumnBlocks;
constexpr int kBlockTokens = kColumns / 2;
constexpr int kChunkInputs = 64;
constexpr int kChunks = kTileDepth / kChunkInputs;  // of a tile
constexpr int kStages = 4;
// Bytes between columns: 8-byte reads of 4 columns x 4 lanes meet all banks once.
constexpr int kColumnBytes = 2 * kChunkInputs + 32;
constexpr int kStageBytes = kColumns * kColumnBytes;

// Starts the copy of chunk `chunk` of the block's columns.
__device__ __forceinline__ void load_chunk(const HalfTokens& tokens, int first_column, int chunk,
                                           uint8_t* stage) {
  constexpr int kPieces = 2 * kChunkInputs / 16;  // of a column
  const int64_t stride = static_cast<int64_t>(tiles_of(tokens.k, kTileDepth)) * kTileDepth;
#pragma unroll
  for (int i = 0; i < kColumns * kPieces / (kWarps * kLanes); ++i) {
    const int piece = static_cast<int>(threadIdx.x) + i * kWarps * kLanes;
    const int column = piece / kPieces;
    const bool exists = first_column + column < 2 * tokens.m;
    const int64_t row = exists ? first_column + column : 0;
    copy_async_or_clear(stage + column * kColumnBytes + piece % kPieces * 16,
                        tokens.halves + row * stride + chunk * kChunkInputs + piece % kPieces * 8,
                        exists);
  }
}

// The tiles of one unit of both rows of tiles of a warp.
template <class Codes>
struct WarpUnit {
  typename Codes::State rows[kRowTiles];
};

template <class Codes>
__device__ __forceinline__ void load_states(const WeightTiles& weights, int first_tile, int unit,
                                            int tiles, int lane, WarpUnit<Codes>& states) {
  const int n_tiles = tiles_of(weights.n, kTileRows);
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    uint32_t words[Codes::kLoads][4];
    load_unit<Codes>(weights, first_tile + r, unit, first_tile + r < n_tiles, lane, words);
    Codes::gather(tiles, words, states.rows[r]);
  }
}

struct Accumulators {
  float values[kRowTiles][kColumnBlocks][4];
};

// Tile number `tile` of the unit in both rows times the columns of step s, which is step s % 2 of
// the chunk in `stage`.
template <class Codes>
__device__ __forceinline__ void multiply_step(const WarpUnit<Codes>& unit, int tile, int s,
                                              int lane, const ZeroPair (&minus)[kRowTiles],
                                              const uint8_t* stage, Accumulators& acc) {
  const uint8_t* column = stage + lane / 4 * kColumnBytes + 8 * (lane % 4) + 64 * (s % 2);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    uint32_t a[kRowTiles][4];
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r)
      expand_step<Codes>(unit.rows[r], minus[r], tile, s, h, a[r]);
#pragma unroll
    for (int c = 0; c < kColumnBlocks; ++c) {
      const uint2 b = *reinterpret_cast<const uint2*>(column + 8 * c * kColumnBytes + 32 * h);
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r)
        half_mma(acc.values[r][c], a[r], b);
    }
  }
}

__device__ __forceinline__ void clear(Accumulators& acc) {
#pragma unroll
  for (int i = 0; i < kRowTiles * kColumnBlocks * 4; ++i)
    acc.values[i / (4 * kColumnBlocks)][i / 4 % kColumnBlocks][i % 4] = 0;
}

// totals += scale of the row * acc.
__device__ __forceinline__ void add_group(const float* const (&scales)[kRowTiles], int entry, int g,
                                          const Accumulators& acc, Accumulators& totals) {
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    const float scale[2] = {scales[r][entry + g], scales[r][entry + g + 8]};
#pragma unroll
    for (int i = 0; i < kColumnBlocks * 4; ++i)
      totals.values[r][i / 4][i % 4] += scale[i % 4 / 2] * acc.values[r][i / 4][i % 4];
  }
}

template <class Codes>
__global__ void __launch_bounds__(kWarps* kLanes, 2) half_prefill(const HalfArguments arguments) {
  __shared__ __align__(16) uint8_t stages[kStages][kStageBytes];
  const WeightTiles& weights = arguments.weights;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int g = lane / 4;
  const int n_tiles = tiles_of(weights.n, kTileRows);
  const int first_tile =
      (static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kLanes) * kRowTiles;
  const int first_token = static_cast<int>(blockIdx.y) * kBlockTokens;
  const int k_tiles = tiles_of(weights.k, kTileDepth);
  const int chunks = k_tiles * kChunks;
  const int shift = group_shift(weights);
  const int steps = 1 << shift;
  const float* scales[kRowTiles];
  const int32_t* zeros[kRowTiles];
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    const int64_t tile = first_tile + r < n_tiles ? first_tile + r : n_tiles - 1;
    scales[r] = weights.scales + tile * weights.groups * kTileRows;
    zeros[r] = weights.zeros + tile * weights.groups * kTileRows;
  }

  release_next();
  wait_for_previous();
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) {
    if (i < chunks) load_chunk(arguments.tokens, 2 * first_token, i, stages[i]);
    commit_copies();
  }
  Accumulators acc;  // of a group or a tile: the multiplier cuts its sums where totals are rounded
  Accumulators totals;
  clear(totals);
  for (int unit = 0; unit < Codes::units(k_tiles); ++unit) {
    const int tiles = Codes::tiles(k_tiles, unit);
    WarpUnit<Codes> states;
    ZeroPair minus[kRowTiles];
    load_states<Codes>(weights, first_tile, unit, tiles, lane, states);
#pragma unroll
    for (int i = 0; i < Codes::kUnitTiles * kHalfSteps; ++i) {
      const int tile = i / kHalfSteps;
      const int s = i % kHalfSteps;
      if (tile >= tiles) break;
      const int k_tile = unit * Codes::kUnitTiles + tile;
      const int entry = group_entry(weights, k_tile, s, shift);
      if (s % 2 == 0) {
        wait_copies<kStages - 2>();
        __syncthreads();  // the chunk has arrived, and nobody reads the one before it any more
        const int next = k_tile * kChunks + s / 2 + kStages - 1;
        if (next < chunks)
          load_chunk(arguments.tokens, 2 * first_token, next, stages[next % kStages]);
        commit_copies();
      }
      if ((s & (steps - 1)) == 0) {
        clear(acc);
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r)
          minus[r] = zero_pair(zeros[r] + entry, g);
      }
      multiply_step<Codes>(states, tile, s, lane, minus, stages[s / 2 % kStages], acc);
      if (((s + 1) & (steps - 1)) == 0) add_group(scales, entry, g, acc, totals);
    }
  }
#pragma unroll
  for (int i = 0; i < kRowTiles * kColumnBlocks; ++i) {
    const int n_tile = first_tile + i / kColumnBlocks;
    const int token = first_token + i % kColumnBlocks * kHalfColumnTokens + lane % 4;
    const float(&sums)[4] = totals.values[i / kColumnBlocks][i % kColumnBlocks];
    if (n_tile < n_tiles && token < arguments.tokens.m)
      store_outputs(arguments, n_tile, g, token, sums[0] + sums[1], sums[2] + sums[3]);
  }
}

template <class Codes>
cudaError_t launch_codes(const HalfArguments& arguments, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid =
      dim3(static_cast<unsigned>(tiles_of(arguments.weights.n, kTileRows * kRowTiles * kWarps)),
           static_cast<unsigned>(tiles_of(arguments.tokens.m, kBlockTokens)));
  shape.block = dim3(kWarps * kLanes);
  return launch(half_prefill<Codes>, shape, stream, arguments);
}

}  // namespace

cudaError_t launch_half_prefill(const HalfArguments& arguments, cudaStream_t stream) {
  if (arguments.weights.encoding == TileEncoding::kBase5)
    return launch_codes<Base5HalfCodes>(arguments, stream);
  const int planes = arguments.weights.planes;
  if (planes == 1) return launch_codes<PlaneCodes<1>>(arguments, stream);
  if (planes == 2) return launch_codes<PlaneCodes<2>>(arguments, stream);
  if (planes <= 4) return launch_codes<PlaneCodes<4>>(arguments, stream);
  return launch_codes<PlaneCodes<8>>(arguments, stream);
}

}  // namespace abq::runtime::cuda
