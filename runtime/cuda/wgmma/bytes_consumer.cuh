// A consumer warp of the byte kernels (bytes_block.cuh), scales per channel.
#pragma once

#include "runtime/cuda/wgmma/bytes_block.cuh"
#include "runtime/cuda/wgmma/epilogue.cuh"
#include "runtime/cuda/wgmma/instructions.cuh"
#include "runtime/cuda/wgmma/weight_words.cuh"

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

// All K of a block tile into `sums`, zero on entry. While the product of a step runs, the registers
// of the next one are made, across tiles and units. Units of one tile take turns in two sets of
// words, each made ready while the other multiplies; of longer ones, which step() never hands out,
// the words move, since two sets of their planes would not fit the registers.
template <int kTokens, class Words>
struct ChannelProduct {
  static constexpr int kTiles = Words::kUnitTiles;
  static constexpr bool kTurns = kTiles == 1;

  const BytesArguments& a;
  const BytesShared& shared;
  Consumer& c;
  uint32_t registers[2][4];  // of the step under way and the next one
  int read_slot = -1;        // of the codes read last; -1 at first

  // One tile of 256 inputs, number `tile` of its unit; `left` tiles from this unit on.
  __device__ __forceinline__ void multiply_tile(int tile, int left, Words& words, Words& next,
                                                uint32_t (&sums)[kTokens / 2]) {
    const bool fetches = tile + 1 == kTiles && left > kTiles;
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      if (s % kStageSteps == 0) wait_barrier(shared.codes_full + c.code.slot * 8, c.code.parity);
      begin_products();
      Product<kTokens>::bytes(sums, registers[s % 2],
                              codes_descriptor<kTokens>(shared, c.code.slot, s));
      commit_products();
      wait_products<1>();
      if (s % kStageSteps == 0 && (s > 0 || read_slot >= 0))
        release_codes(a, shared, read_slot, c.lane);
      if (s % kStageSteps == kStageSteps - 1) {
        read_slot = c.code.slot;
        c.code.advance(kCodeSlots<kTokens>);
      }
      if (fetches && s == kStageSteps - 1)
        fetch_words(a, shared, c, min(left - kTiles, kTiles), next);
      if (kTurns && fetches && s >= kSteps - kPrepareParts)
        next.prepare_part(s - (kSteps - kPrepareParts));
      if (s + 1 < kSteps) {
        words.step(tile * kSteps + s + 1, registers[(s + 1) % 2]);
      } else if (tile + 1 < kTiles && tile + 1 < left) {
        words.step((tile + 1) * kSteps, registers[0]);
      } else if (left > kTiles) {
        if constexpr (!kTurns) {
          words = next;
          prepare(words);
        }
        (kTurns ? next : words).step(0, registers[0]);
      }
    }
  }
  __device__ __forceinline__ void multiply_unit(int left, Words& words, Words& next,
                                                uint32_t (&sums)[kTokens / 2]) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      if (tile > 0 && tile >= left) break;
      multiply_tile(tile, left, words, next, sums);
    }
  }

  __device__ __forceinline__ void run(uint32_t (&sums)[kTokens / 2]) {
    Words words;
    Words next;
    fetch_words(a, shared, c, min(a.k_tiles, kTiles), words);
    prepare(words);
    words.step(0, registers[0]);
    for (int left = a.k_tiles; left > 0; left -= kTiles) {
      multiply_unit(left, words, next, sums);
      if (!kTurns) continue;
      left -= kTiles;
      if (left > 0) multiply_unit(left, next, words, sums);
    }
    wait_products<0>();
    release_codes(a, shared, read_slot, c.lane);
  }
};

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
    ChannelProduct<kTokens, Words>{a, shared, c}.run(sums);
    const int n_tile =
        (place.row_tile * a.cluster + static_cast<int>(rank)) * kConsumerWarps + c.warp;
    write_channel_sums<kTokens>(sums, a.weights, a.tokens, a.output, n_tile,
                                place.token_tile * kTokens, c.lane);
  }
}

}  // namespace abq::runtime::cuda::wgmma
