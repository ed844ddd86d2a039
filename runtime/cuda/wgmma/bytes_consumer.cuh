// A consumer warp of the byte kernels (bytes_block.cuh), scales per channel.
#pragma once

#include "runtime/cuda/wgmma/bytes_block.cuh"
#include "runtime/cuda/wgmma/epilogue.cuh"
#include "runtime/cuda/wgmma/instructions.cuh"

namespace abq::runtime::cuda::wgmma {

// What a consumer warp knows about its place.
struct Consumer {
  int warp;  // of 8
  int lane;
  RingPosition code;
  RingPosition word;
};

// The words of this warp's next unit; their slot is free again afterwards.
template <class Words>
__device__ __forceinline__ void fetch_words(const BytesArguments& a, const BytesShared& shared,
                                            Consumer& c, int tiles, Words& words) {
  wait_barrier(shared.words_full + c.word.slot * 8, c.word.parity);
  words.load(shared.words + (c.word.slot * kConsumerWarps + c.warp) * a.unit_bytes,
             a.weights.planes, tiles, c.lane);
  __syncwarp();
  if (c.lane == 0) arrive(shared.words_empty + c.word.slot * 8);
  c.word.advance(a.word_slots);
}

// Tells every block of the cluster that this warp has read a slot of codes.
__device__ __forceinline__ void release_codes(const BytesArguments& a, const BytesShared& shared,
                                              int slot, int lane) {
  __syncwarp();
  if (lane < a.cluster) arrive_remote(shared.codes_empty + slot * 8, lane);
}

template <int kTokens>
__device__ __forceinline__ uint64_t codes_descriptor(const BytesShared& shared, int slot,
                                                     int step) {
  return b_descriptor(
      shared.codes + slot * (kTokens * kByteStageDepth) + step_offset(step % kStageSteps),
      kByteStrides);
}

// One tile of 256 inputs, number `tile` of its unit. While the product of a step runs, the
// registers of the next one are made; halfway() is called in the middle.
template <int kTokens, class Words, class Halfway>
__device__ __forceinline__ void multiply_tile(const BytesArguments& a, const BytesShared& shared,
                                              Consumer& c, const Words& words, int tile,
                                              uint32_t (&sums)[kTokens / 2],
                                              const Halfway& halfway) {
  uint32_t registers[2][4];
  words.step(tile * kSteps, registers[0]);
  const int first_slot = c.code.slot;
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    if (s == kStageSteps) c.code.advance(kCodeSlots<kTokens>);
    if (s % kStageSteps == 0) wait_barrier(shared.codes_full + c.code.slot * 8, c.code.parity);
    begin_products();
    Product<kTokens>::bytes(sums, registers[s % 2],
                            codes_descriptor<kTokens>(shared, c.code.slot, s));
    commit_products();
    if (s + 1 < kSteps) {
      wait_products<1>();
      if (s == kStageSteps) release_codes(a, shared, first_slot, c.lane);
      words.step(tile * kSteps + s + 1, registers[(s + 1) % 2]);
      if (s == kStageSteps) halfway();
    }
  }
  wait_products<0>();
  release_codes(a, shared, c.code.slot, c.lane);
  c.code.advance(kCodeSlots<kTokens>);
}

// All K of a block tile into `sums`, zero on entry.
template <int kTokens, class Words>
__device__ __forceinline__ void multiply_channels(const BytesArguments& a,
                                                  const BytesShared& shared, Consumer& c,
                                                  uint32_t (&sums)[kTokens / 2]) {
  constexpr int kTiles = Words::kUnitTiles;
  Words words;
  Words next;
  fetch_words(a, shared, c, min(a.k_tiles, kTiles), next);
  for (int left = a.k_tiles; left > 0; left -= kTiles) {
    words = next;
    words.prepare(min(left, kTiles));
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      if (tile > 0 && tile >= left) break;
      multiply_tile<kTokens>(a, shared, c, words, tile, sums, [&] {
        if (tile == 0 && left > kTiles) {
          fetch_words(a, shared, c, min(left - kTiles, kTiles), next);
        }
      });
    }
  }
}

template <int kTokens, class Words>
__device__ __forceinline__ void consume_channels(const BytesArguments& a, const BytesShared& shared,
                                                 Consumer& c, uint32_t rank, int unit, int units,
                                                 int unit_step) {
  for (; unit < units; unit += unit_step) {
    const TilePlace place = schedule_place(a.schedule, unit);
    uint32_t sums[kTokens / 2];
#pragma unroll
    for (int i = 0; i < kTokens / 2; ++i)
      sums[i] = 0;
    multiply_channels<kTokens, Words>(a, shared, c, sums);
    const int n_tile =
        (place.row_tile * a.cluster + static_cast<int>(rank)) * kConsumerWarps + c.warp;
    write_channel_sums<kTokens>(sums, a.weights, a.tokens, a.output, n_tile,
                                place.token_tile * kTokens, c.lane);
  }
}

}  // namespace abq::runtime::cuda::wgmma
