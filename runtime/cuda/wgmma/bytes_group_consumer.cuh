// A consumer warp of the byte kernels (bytes_block.cuh) when groups of inputs have scales of their
// own: integer sums end with each group and are added up as floats.
#pragma once

#include "runtime/cuda/wgmma/bytes_consumer.cuh"

namespace abq::runtime::cuda::wgmma {

// An integer S < 2^23 above this number is the float 2^23 + S: sums start here, so that none has to
// be converted (a group of 128 has 128 * 255 * 255 < 2^23).
inline constexpr uint32_t kFloatBias = 0x4b000000u;
inline constexpr float kFloatBiasValue = 8388608.0f;

// Float sums of a warp's weight tile over its groups: y = scale_x (values - zero_x offsets).
template <int kTokens>
struct GroupSums {
  float values[kTokens / 2];  // sum of s_w (d sum qx qw - z_w sum qx)
  float offsets[2] = {0, 0};  // sum of s_w (d sum qw - size z_w), rows g and g + 8

  __device__ __forceinline__ GroupSums() {
#pragma unroll
    for (int i = 0; i < kTokens / 2; ++i)
      values[i] = 0;
  }
  // Adds a group's integer sums, given over kFloatBias; code_sums: shared address of the float sums
  // of this lane's first token.
  __device__ __forceinline__ void add(const WeightTiles& w, int n_tile, int group, int lane,
                                      uint32_t code_sums, const uint32_t (&sums)[kTokens / 2]) {
    const float d = static_cast<float>(w.denominator);
    float scale[2];
    float zero[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int64_t at =
          (static_cast<int64_t>(n_tile) * w.groups + group) * kTileRows + lane / 4 + 8 * h;
      scale[h] = __ldg(w.scales + at);
      zero[h] = static_cast<float>(__ldg(w.zeros + at));
      const float codes = static_cast<float>(__ldg(w.sums + at));
      offsets[h] =
          fmaf(scale[h], d * codes - static_cast<float>(w.group_size) * zero[h], offsets[h]);
    }
#pragma unroll
    for (int j = 0; j < kTokens / 8; ++j) {
      const uint2 pair = load_shared_8(code_sums + 32 * j);
      const float x[2] = {__uint_as_float(pair.x), __uint_as_float(pair.y)};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int r = 4 * j + i;
        const float sum = fmaf(__uint_as_float(sums[r]), d, -kFloatBiasValue * d);
        values[r] = fmaf(scale[i / 2], fmaf(-zero[i / 2], x[i % 2], sum), values[r]);
      }
    }
  }
};

// Where a consumer warp's part of a block tile lies.
struct WarpPlace {
  int n_tile;
  int first_token;
};

// The end of step s: if a group ends there, its sums are added or, for tests, written.
template <int kTokens>
__device__ __forceinline__ void finish_group(const BytesArguments& a, const BytesShared& shared,
                                             const Consumer& c, const WarpPlace& place, int s,
                                             int group_steps, int& group,
                                             const uint32_t (&sums)[kTokens / 2],
                                             GroupSums<kTokens>& total) {
  if ((s + 1) % group_steps != 0) return;
  if (place.n_tile < count_tiles(a.weights.n, kTileRows) && group < a.weights.groups) {
    if (a.output.raw != nullptr) {
      write_raw<kTokens>(a.output, a.weights, a.tokens.m,
                         output_rows(a.weights, place.n_tile, c.lane), group, place.first_token,
                         c.lane, sums, kFloatBias);
    } else {
      const int first_part = s % kStageSteps + 1 - group_steps;
      total.add(a.weights, place.n_tile, group, c.lane,
                shared.sums + c.code.slot * kSumBytes<kTokens, true> +
                    (first_part * kTokens + d_token(c.lane, 0)) * 4,
                sums);
    }
  }
  ++group;
}

// All K of a block tile, group after group.
template <int kTokens, class Words>
__device__ __forceinline__ void multiply_groups(const BytesArguments& a, const BytesShared& shared,
                                                Consumer& c, const WarpPlace& place,
                                                GroupSums<kTokens>& total) {
  constexpr int kTiles = Words::kUnitTiles;
  const int group_steps = a.weights.group_size / kDepthBytes;
  Words words;
  uint32_t sums[kTokens / 2];
  int group = 0;
  for (int kt = 0; kt < a.k_tiles; ++kt) {
    const int tile = kt % kTiles;
    if (tile == 0) {
      const int tiles = min(a.k_tiles - kt, kTiles);
      fetch_words(a, shared, c, tiles, words);
      prepare(words);
    }
    uint32_t registers[kSteps][4];
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      if (i != tile) continue;
#pragma unroll
      for (int s = 0; s < kSteps; ++s)
        words.step(i * kSteps + s, registers[s]);
    }
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      if (s % kStageSteps == 0) wait_barrier(shared.codes_full + c.code.slot * 8, c.code.parity);
      if (s % group_steps == 0) {
#pragma unroll
        for (int i = 0; i < kTokens / 2; ++i)
          sums[i] = kFloatBias;
      }
      begin_products();
      Product<kTokens>::bytes(sums, registers[s],
                              codes_descriptor<kTokens>(shared, c.code.slot, s));
      commit_products();
      wait_products<0>();
      finish_group<kTokens>(a, shared, c, place, s, group_steps, group, sums, total);
      if (s % kStageSteps == kStageSteps - 1) {
        release_codes(a, shared, c.code.slot, c.lane);
        c.code.advance(kCodeSlots<kTokens>);
      }
    }
  }
}

template <int kTokens, class Words>
__device__ __forceinline__ void consume_groups(const BytesArguments& a, const BytesShared& shared,
                                               Consumer& c, uint32_t rank, int unit, int units,
                                               int unit_step) {
  for (; unit < units; unit += unit_step) {
    const TilePlace tile = schedule_place(a.schedule, unit);
    const WarpPlace place = {
        (tile.row_tile * a.cluster + static_cast<int>(rank)) * kConsumerWarps + c.warp,
        tile.token_tile * kTokens};
    GroupSums<kTokens> total;
    multiply_groups<kTokens, Words>(a, shared, c, place, total);
    if (a.output.raw != nullptr || place.n_tile >= count_tiles(a.weights.n, kTileRows)) continue;
    write_outputs<kTokens>(
        a.output, a.tokens, output_rows(a.weights, place.n_tile, c.lane), a.weights.gated,
        place.first_token, c.lane, [&](int r, const TokenTerms& token) {
          const float offset = total.offsets[d_row(0, r) != 0 ? 1 : 0];
          return token.scale * (total.values[r] - static_cast<float>(token.zero) * offset);
        });
  }
}

}  // namespace abq::runtime::cuda::wgmma
