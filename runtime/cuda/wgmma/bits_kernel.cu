// Linears on wgmma b1: plane words of the weights are the A operand as they lie in memory, plane
// words of the tokens the B operand. A product of p and q planes is p q instructions for 256
// inputs; those of equal weight i + j share their sums.
//
// A block is one producer warpgroup and two consumer warpgroups of 64 rows each. A slot of the ring
// holds one weight tile's depth (256 inputs): the words of 8 weight tiles, brought by bulk copies,
// and the planes of the block's tokens, brought in 16-byte pieces: 16 consecutive bytes of a plane
// of a token are a row of a core matrix.
#include "runtime/cuda/wgmma/cluster_launch.cuh"
#include "runtime/cuda/wgmma/epilogue.cuh"
#include "runtime/cuda/wgmma/instructions.cuh"
#include "runtime/cuda/wgmma/launchers.h"
#include "runtime/cuda/wgmma/ring.cuh"
#include "runtime/cuda/wgmma/schedule.h"

namespace abq::runtime::cuda::wgmma {
namespace bits {

inline constexpr int kTokens = 128;
inline constexpr int kSlots = 8;
inline constexpr int kLag =
    3;  // slots that a producer thread has under way before it hands one over
inline constexpr int kPlaneWordsBytes = 512;  // of a weight tile
inline constexpr CoreStrides kStrides = bit_strides(kTokens);

template <int kPlanes>
inline constexpr int kWordBytes = kConsumerWarps* kPlanes* kPlaneWordsBytes;
template <int kBits>
inline constexpr int kPlaneBytes = plane_offset(kTokens, kBits);
template <int kPlanes, int kBits>
inline constexpr int kSlotBytes = kWordBytes<kPlanes> + kPlaneBytes<kBits>;
template <int kPlanes, int kBits>
inline constexpr int kSharedBytes = 1024 + kSlots* kSlotBytes<kPlanes, kBits>;

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
      : full(base), empty(base + kSlots * 8), slots(base + 1024) {}
};

// ---- producer ----

template <int kPlanes>
__device__ __forceinline__ void copy_words(const BitsArguments& a, uint32_t target,
                                           uint32_t barrier, int first_n_tile, int k_tile,
                                           int lane) {
  constexpr int kTileBytes = kPlanes * kPlaneWordsBytes;
  if (lane == 0) arrive_expecting(barrier, kWordBytes<kPlanes>);
  __syncwarp();
  if (lane >= kConsumerWarps) return;
  const int n_tile = min(first_n_tile + lane, count_tiles(a.weights.n, kTileRows) - 1);
  const int64_t tile = static_cast<int64_t>(n_tile) * count_tiles(a.weights.k, kTileDepth) + k_tile;
  bulk_copy(target + lane * kTileBytes,
            reinterpret_cast<const uint8_t*>(a.weights.tiles) + tile * kTileBytes, kTileBytes,
            barrier);
}

// The thread's pieces of one slot of tokens: one depth half of all planes of two tokens. Neighbours
// take the halves of a plane, which lie together in global memory.
template <int kBits>
__device__ __forceinline__ void copy_planes(const BitsArguments& a, uint32_t target,
                                            int first_token, int k_tile, int thread) {
  const int64_t token_bytes =
      static_cast<int64_t>(count_tiles(a.tokens.k, kTileDepth)) * kBits * kDepthBytes;
  const int half = thread % 2;
  const uint8_t* source = reinterpret_cast<const uint8_t*>(a.tokens.planes) +
                          (first_token + thread / 2) * token_bytes +
                          k_tile * (kBits * kDepthBytes) + half * kCoreDepthBytes;
  target += half * kStrides.depth + b_offset(kStrides, thread / 2, 0);
  constexpr int kStep = kWarpgroup / 2;  // tokens
#pragma unroll
  for (int i = 0; i < kTokens / kStep; ++i) {
#pragma unroll
    for (int j = 0; j < kBits; ++j) {
      copy_16_bytes(target + i * b_offset(kStrides, kStep, 0) + plane_offset(kTokens, j),
                    source + j * kDepthBytes);
    }
    source += kStep * token_bytes;
  }
  commit_copies();
}

__device__ __forceinline__ void hand_over(const BitsShared& shared, RingPosition& done) {
  fence_shared_for_products();
  arrive(shared.full + done.slot * 8);
  done.advance(kSlots);
}

template <int kPlanes, int kBits>
__device__ __forceinline__ void produce(const BitsArguments& a, const BitsShared& shared, int units,
                                        int thread) {
  const int k_tiles = count_tiles(a.weights.k, kTileDepth);
  RingPosition next;
  RingPosition done;
  int started = 0;
  for (int unit = static_cast<int>(blockIdx.x); unit < units; unit += static_cast<int>(gridDim.x)) {
    const TilePlace place = schedule_place(a.schedule, unit);
    for (int kt = 0; kt < k_tiles; ++kt) {
      const uint32_t slot = shared.slots + next.slot * kSlotBytes<kPlanes, kBits>;
      wait_barrier(shared.empty + next.slot * 8, next.parity ^ 1);
      if (thread < 32) {
        copy_words<kPlanes>(a, slot, shared.full + next.slot * 8, place.row_tile * kConsumerWarps,
                            kt, thread);
      }
      copy_planes<kBits>(a, slot + kWordBytes<kPlanes>, place.token_tile * kTokens, kt, thread);
      next.advance(kSlots);
      if (++started > kLag) {
        wait_copies<kLag>();
        hand_over(shared, done);
      }
    }
  }
  wait_copies<0>();
  for (int i = min(started, kLag); i > 0; --i)
    hand_over(shared, done);
}

// ---- consumer ----

template <int kPlanes>
__device__ __forceinline__ void load_words(uint32_t tile, int lane, uint32_t (&words)[kPlanes][4]) {
#pragma unroll
  for (int i = 0; i < kPlanes; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint2 pair = load_shared_8(tile + i * kPlaneWordsBytes + bit_words_offset(lane, half));
      words[i][2 * half] = pair.x;
      words[i][2 * half + 1] = pair.y;
    }
  }
}

template <int kPlanes, int kBits>
__device__ __forceinline__ void multiply_slot(uint32_t planes, const uint32_t (&words)[kPlanes][4],
                                              uint32_t (&sums)[kPlanes + kBits - 1][kTokens / 2]) {
  begin_products();
#pragma unroll
  for (int i = 0; i < kPlanes; ++i) {
#pragma unroll
    for (int j = 0; j < kBits; ++j) {
      Product<kTokens>::bits(sums[i + j], words[i],
                             b_descriptor(planes + plane_offset(kTokens, j), kStrides));
    }
  }
  commit_products();
}

// All K of a block tile: sums[i + j] += popcounts. A warpgroup's products are one batch for each
// slot; while it loads words for the next one, the other warpgroup's run.
template <int kPlanes, int kBits>
__device__ __forceinline__ void multiply_tile(const BitsArguments& a, const BitsShared& shared,
                                              RingPosition& position, int warp, int lane,
                                              uint32_t (&sums)[kPlanes + kBits - 1][kTokens / 2]) {
  const int k_tiles = count_tiles(a.weights.k, kTileDepth);
  for (int kt = 0; kt < k_tiles; ++kt) {
    const uint32_t slot = shared.slots + position.slot * kSlotBytes<kPlanes, kBits>;
    uint32_t words[kPlanes][4];
    wait_barrier(shared.full + position.slot * 8, position.parity);
    load_words<kPlanes>(slot + warp * kPlanes * kPlaneWordsBytes, lane, words);
    multiply_slot<kPlanes, kBits>(slot + kWordBytes<kPlanes>, words, sums);
    wait_products<0>();
    __syncwarp();
    if (lane == 0) arrive(shared.empty + position.slot * 8);
    position.advance(kSlots);
  }
}

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
    multiply_tile<kPlanes, kBits>(a, shared, position, warp, lane, sums);
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
    for (int i = 0; i < kSlots; ++i) {
      init_barrier(shared.full + i * 8, kWarpgroup + 1);
      init_barrier(shared.empty + i * 8, kConsumerWarps);
    }
    fence_barrier_init();
  }
  __syncthreads();
  wait_for_previous();
  release_next();

  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
  const int units = schedule_size(a.schedule);
  if (warp < kWarpgroup / 32) {
    shrink_registers<kProducerRegisters>();
    produce<kPlanes, kBits>(a, shared, units, static_cast<int>(threadIdx.x));
  } else {
    grow_registers<kConsumerRegisters>();
    consume<kPlanes, kBits>(a, shared, units, warp - kWarpgroup / 32,
                            static_cast<int>(threadIdx.x) % 32);
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
