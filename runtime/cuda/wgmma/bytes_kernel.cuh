// The byte kernel itself and its launch (bytes_block.cuh says how a block works).
#pragma once

#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/wgmma/bytes_consumer.cuh"
#include "runtime/cuda/wgmma/bytes_group_consumer.cuh"
#include "runtime/cuda/wgmma/bytes_producer.cuh"
#include "runtime/cuda/wgmma/cluster_launch.cuh"
#include "runtime/cuda/wgmma/launchers.h"
#include "runtime/cuda/wgmma/weight_words.cuh"

namespace abq::runtime::cuda::wgmma {

template <int kTokens, class Words, bool kGroups>
__device__ __forceinline__ void run_bytes(const BytesArguments& a, uint8_t* memory) {
  constexpr int kSlots = kCodeSlots<kTokens>;
  const uint32_t base = shared_address(memory);
  const BytesShared shared(base, kSlots * kTokens * kByteStageDepth);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kSlots; ++i) {
      init_barrier(shared.codes_full + i * 8, 1 + (kGroups ? kSumThreads : 0));
      init_barrier(shared.codes_empty + i * 8, kConsumerWarps * a.cluster);
    }
    for (int i = 0; i < a.word_slots; ++i) {
      init_barrier(shared.words_full + i * 8, 1);
      init_barrier(shared.words_empty + i * 8, kConsumerWarps);
    }
    fence_barrier_init();
  }
  sync_cluster();
  wait_for_previous();
  release_next();

  const uint32_t rank = cluster_rank();
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first = static_cast<int>(blockIdx.x) / a.cluster;
  const int step = static_cast<int>(gridDim.x) / a.cluster;
  const int units = schedule_size(a.schedule);
  if (warp < kWarpgroup / 32) {
    shrink_registers<kProducerRegisters>();
    if constexpr (!kGroups) {
      produce_copies<kTokens, Words::kUnitTiles, kWarpgroup / 32>(a, shared, rank, first, units,
                                                                  step, {warp, lane});
    } else if (warp == 0) {
      produce_copies<kTokens, Words::kUnitTiles, 1>(a, shared, rank, first, units, step, {0, lane});
    } else {
      produce_sums<kTokens>(a, shared, reinterpret_cast<float*>(memory + (shared.sums - base)),
                            first, units, step, static_cast<int>(threadIdx.x) - 32);
    }
    __syncwarp();
  } else {
    grow_registers<kConsumerRegisters>();
    Consumer consumer{warp - kWarpgroup / 32, lane, {}, {}};
    if constexpr (kGroups) {
      consume_groups<kTokens, Words>(a, shared, consumer, rank, first, units, step);
    } else {
      consume_channels<kTokens, Words>(a, shared, consumer, rank, first, units, step);
    }
  }
  sync_cluster();  // nobody leaves while the others' arrivals and copies are on their way
}

template <int kTokens, class Words, bool kGroups>
__global__ __launch_bounds__(kBlockThreads,
                             1) void bytes_kernel(const __grid_constant__ BytesArguments a) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) uint8_t memory[];
  run_bytes<kTokens, Words, kGroups>(a, memory);
#endif
}

template <int kTokens, class Words, bool kGroups>
cudaError_t launch_bytes(const WeightTiles& weights, const TokenTiles& tokens,
                         const LinearOutput& output, int cluster, cudaStream_t stream) {
  BytesArguments a;
  a.weights = weights;
  a.tokens = tokens;
  a.output = output;
  a.cluster = cluster;
  a.schedule = make_schedule(tokens.m, weights.n, kTokens, cluster);
  a.k_tiles = tiles_of(weights.k, kTileDepth);
  if (weights.encoding == TileEncoding::kBase5) {
    const int last_tiles = base5_unit_tiles(a.k_tiles, base5_units(a.k_tiles) - 1);
    a.unit_bytes = kBase5UnitLoads * kLanes * 16;
    a.last_unit_bytes = base5_loads(last_tiles) * kLanes * 16;
    a.row_bytes = static_cast<int64_t>(base5_row_loads(a.k_tiles)) * kLanes * 16;
  } else {
    a.unit_bytes = a.last_unit_bytes = weights.planes * kLanes * 16;
    a.row_bytes = static_cast<int64_t>(a.k_tiles) * a.unit_bytes;
  }
  a.word_slots = kWordRingBytes / (kConsumerWarps * a.unit_bytes);
  if (a.word_slots > kMaxSlots) a.word_slots = kMaxSlots;
  static std::atomic<int> resident[2];  // zero at first; devices of one process are alike
  return launch_blocks(bytes_kernel<kTokens, Words, kGroups>, a, schedule_size(a.schedule), cluster,
                       kSharedBytes<kTokens, kGroups>, &resident[cluster - 1], stream);
}

}  // namespace abq::runtime::cuda::wgmma