// The producer warpgroup of the byte kernels (bytes_block.cuh).
#pragma once

#include "runtime/cuda/wgmma/bytes_block.cuh"
#include "runtime/cuda/wgmma/instructions.cuh"

namespace abq::runtime::cuda::wgmma {

// A warp's place among the kWarps that issue copies: one issues a copy in some hundred cycles, lane
// after lane, which is too slow for a block's codes.
struct Copier {
  int warp;
  int lane;
};

// One slot of codes: this warp's part of this block's share of the octets, to all blocks of the
// cluster.
template <int kTokens, int kWarps>
__device__ __forceinline__ void copy_codes(const BytesArguments& a, uint32_t target,
                                           uint32_t barrier, int first_token, int stage,
                                           uint32_t rank, const Copier& copier) {
  const int share = kTokens / kCoreTokens / a.cluster;
  const int part = share / kWarps;
  if (copier.lane >= part) return;
  const int octet = static_cast<int>(rank) * share + copier.warp * part + copier.lane;
  const uint8_t* const source =
      a.tokens.codes + octet_stage_source(first_token / kCoreTokens + octet, a.k_tiles, stage);
  const uint32_t to = target + octet * kOctetStageBytes;
  if (a.cluster == 1) {
    bulk_copy(to, source, kOctetStageBytes, barrier);
  } else {
    bulk_copy_multicast(to, source, kOctetStageBytes, barrier,
                        static_cast<uint16_t>((1 << a.cluster) - 1));
  }
}

// One slot of words: a unit of each of the 8 weight tiles; those beyond n repeat the last.
template <int kWarps>
__device__ __forceinline__ void copy_words(const BytesArguments& a, uint32_t target,
                                           uint32_t barrier, int first_n_tile, int unit, bool last,
                                           const Copier& copier) {
  constexpr int kPart = kConsumerWarps / kWarps;
  const int bytes = last ? a.last_unit_bytes : a.unit_bytes;
  if (copier.warp == 0 && copier.lane == 0) arrive_expecting(barrier, kConsumerWarps * bytes);
  __syncwarp();
  if (copier.lane >= kPart) return;
  const int at = copier.warp * kPart + copier.lane;
  const int n_tile = min(first_n_tile + at, count_tiles(a.weights.n, kTileRows) - 1);
  bulk_copy(target + at * a.unit_bytes,
            reinterpret_cast<const uint8_t*>(a.weights.tiles) + n_tile * a.row_bytes +
                static_cast<int64_t>(unit) * a.unit_bytes,
            bytes, barrier);
}

// The words run one unit ahead of the codes: a consumer takes them before it needs them. Bytes that
// arrive before the first warp has told their number count all the same: a phase ends with both.
template <int kTokens, int kUnitTiles, int kWarps>
__device__ __forceinline__ void produce_copies(const BytesArguments& a, const BytesShared& shared,
                                               uint32_t rank, int place_index, int places, int step,
                                               const Copier& copier) {
  constexpr uint32_t kCodeBytes = kTokens * kByteStageDepth;
  const int units = count_tiles(a.k_tiles, kUnitTiles);
  RingPosition code;
  RingPosition word;
  for (; place_index < places; place_index += step) {
    const TilePlace place = schedule_place(a.schedule, place_index);
    const int first_n_tile = (place.row_tile * a.cluster + static_cast<int>(rank)) * kConsumerWarps;
    int unit = 0;
    for (int kt = 0; kt < a.k_tiles; ++kt) {
      for (; unit < units && unit * kUnitTiles <= kt + kUnitTiles; ++unit) {
        wait_barrier(shared.words_empty + word.slot * 8, word.parity ^ 1);
        copy_words<kWarps>(a, shared.words + word.slot * kConsumerWarps * a.unit_bytes,
                           shared.words_full + word.slot * 8, first_n_tile, unit, unit + 1 == units,
                           copier);
        word.advance(a.word_slots);
      }
      for (int half = 0; half < 2; ++half) {
        const uint32_t codes_full = shared.codes_full + code.slot * 8;
        wait_barrier(shared.codes_empty + code.slot * 8, code.parity ^ 1);
        if (copier.warp == 0 && copier.lane == 0) arrive_expecting(codes_full, kCodeBytes);
        __syncwarp();
        copy_codes<kTokens, kWarps>(a, shared.codes + code.slot * kCodeBytes, codes_full,
                                    place.token_tile * kTokens, 2 * kt + half, rank, copier);
        code.advance(kCodeSlots<kTokens>);
      }
    }
  }
}

// Sums of the tokens' codes by group, as floats [group of the slot][token]; `thread` of
// kSumThreads.
inline constexpr int kSumThreads = 96;

template <int kTokens>
__device__ __forceinline__ void produce_sums(const BytesArguments& a, const BytesShared& shared,
                                             float* sums, int unit, int units, int unit_step,
                                             int thread) {
  const int stages = 2 * a.k_tiles;
  const int parts = a.weights.group_size / 32;  // of 32 inputs, in a group
  RingPosition code;
  for (; unit < units; unit += unit_step) {
    const int first_token = schedule_place(a.schedule, unit).token_tile * kTokens;
    for (int stage = 0; stage < stages; ++stage) {
      wait_barrier(shared.codes_empty + code.slot * 8, code.parity ^ 1);
      float* const slot = sums + code.slot * kTokens * kStageSteps;
      for (int token = thread; token < kTokens; token += kSumThreads) {
        const int4 part = *reinterpret_cast<const int4*>(
            a.tokens.group_sums + static_cast<int64_t>(first_token + token) * (4 * stages) +
            4 * stage);
        int part_sum[4] = {part.x, part.y, part.z, part.w};
        if (parts >= 2) part_sum[0] += part_sum[1], part_sum[2] += part_sum[3];
        if (parts == 4) part_sum[0] += part_sum[2];
        for (int i = 0; i < 4; i += parts) {
          slot[i * kTokens + token] = static_cast<float>(part_sum[i]);
        }
      }
      arrive(shared.codes_full + code.slot * 8);
      code.advance(kCodeSlots<kTokens>);
    }
  }
}

}  // namespace abq::runtime::cuda::wgmma
