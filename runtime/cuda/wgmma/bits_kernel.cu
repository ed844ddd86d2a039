// Linears on wgmma b1: plane words of the weights are the A operand as they lie in memory, plane
// words of the tokens the B operand. A product of p and q planes is p q instructions for 256
// inputs; those of equal weight i + j share their sums.
//
// A block is one producer warpgroup, whose warps issue bulk copies, and two consumer warpgroups of
// 64 rows each. A slot of the ring holds kSlotTiles tiles of depth (256 inputs each): the words of
// 8 weight tiles, and the planes of the block's tokens, which lie in global memory as the
// instructions read them.
#include "runtime/cuda/wgmma/cluster_launch.cuh"
#include "runtime/cuda/wgmma/epilogue.cuh"
#include "runtime/cuda/wgmma/instructions.cuh"
#include "runtime/cuda/wgmma/launchers.h"
#include "runtime/cuda/wgmma/ring.cuh"
#include "runtime/cuda/wgmma/schedule.h"

namespace abq::runtime::cuda::wgmma {
namespace bits {

inline constexpr int kTokens = kPlaneBlockTokens;
inline constexpr int kSlotTiles = 2;
inline constexpr int kMostSlots = 8;
inline constexpr int kBlockShared = 227 << 10;  // bytes that a block can have
inline constexpr int kHeadBytes = 1024;         // barriers
inline constexpr int kPlaneWordsBytes = 512;    // of a weight tile
inline constexpr int kProducerWarps = kWarpgroup / kLanes;

// Of a tile: words of 8 weight tiles, planes of the tokens.
template <int kPlanes>
inline constexpr int kWordBytes = kConsumerWarps* kPlanes* kPlaneWordsBytes;
template <int kPlanes, int kBits>
inline constexpr int kSlotBytes = kSlotTiles*(kWordBytes<kPlanes> + plane_offset(kBits));
template <int kPlanes, int kBits>
inline constexpr int kSlots = (kBlockShared - kHeadBytes) / kSlotBytes<kPlanes, kBits> < kMostSlots
                                  ? (kBlockShared - kHeadBytes) / kSlotBytes<kPlanes, kBits>
                                  : kMostSlots;
template <int kPlanes, int kBits>
inline constexpr int kSharedBytes = kHeadBytes + kSlots<kPlanes, kBits>* kSlotBytes<kPlanes, kBits>;

struct BitsArguments {
  WeightTiles weights;
  TokenTiles tokens;
  LinearOutput output;
  Schedule schedule;
};

// Addresses in shared memory.
struct BitsShared {
  uint32_t full;
  uint32_t empty;
  uint32_t slots;
  __device__ __forceinline__ explicit BitsShared(uint32_t base)
      : full(base), empty(base + kMostSlots * 8), slots(base + kHeadBytes) {}
};

// ---- producer ----

// A warp's part of one slot, `tiles` of it from k_tile on: words of kCopied weight tiles, and an
// equal share of the planes.
template <int kPlanes, int kBits>
__device__ __forceinline__ void copy_slot(const BitsArguments& a, uint32_t slot, uint32_t barrier,
                                          int first_n_tile, int token_block, int k_tile, int tiles,
                                          int warp, int lane) {
  constexpr int kTileBytes = kPlanes * kPlaneWordsBytes;
  if (warp == 0 && lane == 0)
    arrive_expecting(barrier, tiles * (kWordBytes<kPlanes> + plane_offset(kBits)));
  __syncwarp();
  const int k_tiles = count_tiles(a.weights.k, kTileDepth);
  constexpr int kCopied = kConsumerWarps / kProducerWarps;
  if (lane < kCopied) {
    const int at = warp * kCopied + lane;
    const int n_tile = min(first_n_tile + at, count_tiles(a.weights.n, kTileRows) - 1);
    const uint8_t* const source = reinterpret_cast<const uint8_t*>(a.weights.tiles) +
                                  (static_cast<int64_t>(n_tile) * k_tiles + k_tile) * kTileBytes;
    bulk_copy(slot + at * (kSlotTiles * kTileBytes), source, tiles * kTileBytes, barrier);
  } else if (lane == kCopied) {
    const uint32_t share = tiles * (plane_offset(kBits) / kProducerWarps);
    bulk_copy(slot + kSlotTiles * kWordBytes<kPlanes> + warp * share,
              reinterpret_cast<const uint8_t*>(a.tokens.planes) +
                  plane_block_source(token_block, k_tiles, k_tile, kBits) + warp * share,
              share, barrier);
  }
}

template <int kPlanes, int kBits>
__device__ __forceinline__ void produce(const BitsArguments& a, const BitsShared& shared, int units,
                                        int warp, int lane) {
  const int k_tiles = count_tiles(a.weights.k, kTileDepth);
  RingPosition next;
  for (int unit = static_cast<int>(blockIdx.x); unit < units; unit += static_cast<int>(gridDim.x)) {
    const TilePlace place = schedule_place(a.schedule, unit);
    for (int kt = 0; kt < k_tiles; kt += kSlotTiles) {
      wait_barrier(shared.empty + next.slot * 8, next.parity ^ 1);
      copy_slot<kPlanes, kBits>(a, shared.slots + next.slot * kSlotBytes<kPlanes, kBits>,
                                shared.full + next.slot * 8, place.row_tile * kConsumerWarps,
                                place.token_tile, kt, min(kSlotTiles, k_tiles - kt), warp, lane);
      next.advance(kSlots<kPlanes, kBits>);
    }
  }
}

// ---- consumer ----

// All K of a block tile: sums[i + j] += popcounts. The products of a plane of weights with all
// planes of the tokens are one batch. While it runs, the words of the next batch are loaded: with
// one batch at a time the two warpgroups run in step, share the tensor cores, end together and
// leave them idle.
template <int kPlanes, int kBits>
struct TileProduct {
  using Sums = uint32_t[kPlanes + kBits - 1][kTokens / 2];

  const BitsArguments& a;
  const BitsShared& shared;
  RingPosition& position;
  int warp;
  int lane;
  // Of the batch under way and the next one.
  uint32_t words[kPlanes == 1 ? kSlotTiles : kPlanes][4];
  int read_slot = -1;  // whose last batch is under way; -1 at first

  __device__ __forceinline__ uint32_t slot() const {
    return shared.slots + position.slot * kSlotBytes<kPlanes, kBits>;
  }
  // Place of a batch's words.
  static __device__ __forceinline__ constexpr int batch(int tile, int plane) {
    return kPlanes == 1 ? tile : plane;
  }
  __device__ __forceinline__ void load(int tile, int plane) {
    const uint32_t from =
        slot() + ((warp * kSlotTiles + tile) * kPlanes + plane) * kPlaneWordsBytes;
    uint32_t(&to)[4] = words[batch(tile, plane)];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint2 pair = load_shared_8(from + bit_words_offset(lane, half));
      to[2 * half] = pair.x;
      to[2 * half + 1] = pair.y;
      pin(to[2 * half]);
      pin(to[2 * half + 1]);
    }
  }
  __device__ __forceinline__ void load_first() {
    wait_barrier(shared.full + position.slot * 8, position.parity);
    load(0, 0);
  }
  __device__ __forceinline__ void release() const {
    __syncwarp();
    if (lane == 0) arrive(shared.empty + read_slot * 8);
  }
  // The slot in turn, whose first words are loaded. `left`: tiles from this slot on.
  __device__ __forceinline__ void multiply(int left, Sums& sums) {
    const uint32_t planes = slot() + kSlotTiles * kWordBytes<kPlanes>;
#pragma unroll
    for (int tile = 0; tile < kSlotTiles; ++tile) {
      if (tile > 0 && tile >= left) break;
#pragma unroll
      for (int i = 0; i < kPlanes; ++i) {
        begin_products();
#pragma unroll
        for (int j = 0; j < kBits; ++j)
          Product<kTokens>::bits(
              sums[i + j], words[batch(tile, i)],
              b_descriptor(planes + plane_offset(tile * kBits + j), kBitStrides));
        commit_products();
        wait_products<1>();
        if (tile == 0 && i == 0 && read_slot >= 0) release();
        if (i + 1 < kPlanes) {
          load(tile, i + 1);
        } else if (tile + 1 < kSlotTiles && tile + 1 < left) {
          load(tile + 1, 0);
        }
      }
    }
    read_slot = position.slot;
    position.advance(kSlots<kPlanes, kBits>);
    if (left > kSlotTiles) load_first();
  }
  __device__ __forceinline__ void run(Sums& sums) {
    load_first();
    for (int left = count_tiles(a.weights.k, kTileDepth); left > 0; left -= kSlotTiles)
      multiply(left, sums);
    wait_products<0>();
    release();
  }
};

template <int kPlanes, int kBits>
__device__ __forceinline__ void consume(const BitsArguments& a, const BitsShared& shared, int units,
                                        int warp, int lane) {
  constexpr int kWeights = kPlanes + kBits - 1;
  RingPosition position;
  for (int unit = static_cast<int>(blockIdx.x); unit < units; unit += static_cast<int>(gridDim.x)) {
    const TilePlace place = schedule_place(a.schedule, unit);
    uint32_t sums[kWeights][kTokens / 2];
#pragma unroll
    for (int w = 0; w < kWeights; ++w) {
#pragma unroll
      for (int i = 0; i < kTokens / 2; ++i)
        sums[w][i] = 0;
    }
    TileProduct<kPlanes, kBits>{a, shared, position, warp, lane}.run(sums);
#pragma unroll
    for (int w = 1; w < kWeights; ++w) {
#pragma unroll
      for (int i = 0; i < kTokens / 2; ++i)
        sums[0][i] += sums[w][i] << w;
    }
    write_channel_sums<kTokens>(sums[0], a.weights, a.tokens, a.output,
                                place.row_tile * kConsumerWarps + warp, place.token_tile * kTokens,
                                lane);
  }
}

template <int kPlanes, int kBits>
__device__ __forceinline__ void run_bits(const BitsArguments& a, uint32_t base) {
  const BitsShared shared(base);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kSlots<kPlanes, kBits>; ++i) {
      init_barrier(shared.full + i * 8, 1);
      init_barrier(shared.empty + i * 8, kConsumerWarps);
    }
    fence_barrier_init();
  }
  __syncthreads();
  wait_for_previous();
  release_next();

  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int units = schedule_size(a.schedule);
  if (warp < kWarpgroup / 32) {
    shrink_registers<kProducerRegisters>();
    produce<kPlanes, kBits>(a, shared, units, warp, lane);
  } else {
    grow_registers<kConsumerRegisters>();
    consume<kPlanes, kBits>(a, shared, units, warp - kWarpgroup / 32, lane);
  }
}

template <int kPlanes, int kBits>
__global__ __launch_bounds__(kBlockThreads,
                             1) void bits_kernel(const __grid_constant__ BitsArguments a) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) uint8_t memory[];
  run_bits<kPlanes, kBits>(a, shared_address(memory));
#endif
}

template <int kPlanes, int kBits>
cudaError_t launch_pair(const BitsArguments& a, cudaStream_t stream) {
  static std::atomic<int> resident{0};  // devices of one process are alike
  return launch_blocks(bits_kernel<kPlanes, kBits>, a, schedule_size(a.schedule), 1,
                       kSharedBytes<kPlanes, kBits>, &resident, stream);
}

// Pairs whose sums for 128 tokens fit the registers: p + q - 1 <= 3.
#define ABQ_BITS_PAIRS(X) X(1, 1) X(1, 2) X(2, 1) X(2, 2) X(1, 3) X(3, 1)

}  // namespace bits

bool has_bits_kernel(int planes, int activation_bits) {
#define ABQ_PAIR(p, q) \
  if (planes == p && activation_bits == q) return true;
  ABQ_BITS_PAIRS(ABQ_PAIR)
#undef ABQ_PAIR
  return false;
}

cudaError_t launch_bits(const WeightTiles& weights, const TokenTiles& tokens,
                        const LinearOutput& output, cudaStream_t stream) {
  bits::BitsArguments a;
  a.weights = weights;
  a.tokens = tokens;
  a.output = output;
  a.schedule = make_schedule(tokens.m, weights.n, bits::kTokens, 1);
#define ABQ_PAIR(p, q) \
  if (weights.planes == p && tokens.bits == q) return bits::launch_pair<p, q>(a, stream);
  ABQ_BITS_PAIRS(ABQ_PAIR)
#undef ABQ_PAIR
  return cudaErrorInvalidValue;
}

}  // namespace abq::runtime::cuda::wgmma
