// Linears on wgmma u8: packed weight words come to shared memory by bulk copies, become bytes in
// the registers that multiply, and meet the tokens' codes, which stay as they are.
//
// A block is one producer warpgroup (its first warp issues the copies; with groups the others
// prepare sums of the tokens' codes) and two consumer warpgroups of 64 rows each. Three rings in
// shared memory, each slot with a "full" and an "empty" barrier:
//
//   codes    128 inputs of the block's tokens, shared by the cluster
//   words    a unit of tiles of the 8 weight tiles: one tile of planes, three of base 5
//   sums     (groups only) the tokens' sums of codes, float, of the groups in 128 inputs; goes with
//            `codes`
#pragma once

#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/linear/base5_tiles.h"
#include "runtime/cuda/linear/plane_fields.h"
#include "runtime/cuda/wgmma/cluster_launch.cuh"
#include "runtime/cuda/wgmma/epilogue.cuh"
#include "runtime/cuda/wgmma/instructions.cuh"
#include "runtime/cuda/wgmma/launchers.h"
#include "runtime/cuda/wgmma/ring.cuh"
#include "runtime/cuda/wgmma/schedule.h"

namespace abq::runtime::cuda::wgmma {

inline constexpr int kSteps = kTileDepth / kDepthBytes;            // of a tile, 8
inline constexpr int kStageSteps = kByteStageDepth / kDepthBytes;  // of a slot of codes, 4
inline constexpr int kWordRingBytes = 64 << 10;
inline constexpr int kMaxSlots = 8;

struct BytesArguments {
  WeightTiles weights;
  TokenTiles tokens;
  LinearOutput output;
  Schedule schedule;
  int cluster = 1;
  int k_tiles = 0;
  // Words of a weight tile, in bytes: of a unit, of the last unit, of all K.
  int unit_bytes = 0;
  int last_unit_bytes = 0;
  int64_t row_bytes = 0;
  int word_slots = 0;
};

// Slots of codes: what fits beside 64 KiB of words.
template <int kTokens>
inline constexpr int kCodeSlots = kTokens == 256 ? 5 : kMaxSlots;
// Floats of the sums of a slot: four groups of 32 for each token.
template <int kTokens, bool kGroups>
inline constexpr int kSumBytes = kGroups ? kTokens* kStageSteps * 4 : 0;
template <int kTokens, bool kGroups>
inline constexpr int kSharedBytes = 1024 + kWordRingBytes +
                                    kCodeSlots<kTokens>*(kTokens* kByteStageDepth +
                                                         kSumBytes<kTokens, kGroups>);

// Addresses in shared memory.
struct BytesShared {
  uint32_t codes_full;
  uint32_t codes_empty;
  uint32_t words_full;
  uint32_t words_empty;
  uint32_t words;
  uint32_t codes;
  uint32_t sums;

  __device__ __forceinline__ explicit BytesShared(uint32_t base, uint32_t code_bytes)
      : codes_full(base),
        codes_empty(base + kMaxSlots * 8),
        words_full(base + 2 * kMaxSlots * 8),
        words_empty(base + 3 * kMaxSlots * 8),
        words(base + 1024),
        codes(base + 1024 + kWordRingBytes),
        sums(codes + code_bytes) {}
};

// ---- producer ----

// One slot of codes: this block's share of the octets, to all blocks of the cluster.
template <int kTokens>
__device__ __forceinline__ void copy_codes(const BytesArguments& a, uint32_t target,
                                           uint32_t barrier, int first_token, int stage,
                                           uint32_t rank, int lane) {
  const int share = kTokens / kCoreTokens / a.cluster;
  if (lane >= share) return;
  const int octet = static_cast<int>(rank) * share + lane;
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
__device__ __forceinline__ void copy_words(const BytesArguments& a, uint32_t target,
                                           uint32_t barrier, int first_n_tile, int unit, bool last,
                                           int lane) {
  const int bytes = last ? a.last_unit_bytes : a.unit_bytes;
  if (lane == 0) arrive_expecting(barrier, kConsumerWarps * bytes);
  __syncwarp();
  if (lane >= kConsumerWarps) return;
  const int n_tile = min(first_n_tile + lane, count_tiles(a.weights.n, kTileRows) - 1);
  bulk_copy(target + lane * a.unit_bytes,
            reinterpret_cast<const uint8_t*>(a.weights.tiles) + n_tile * a.row_bytes +
                static_cast<int64_t>(unit) * a.unit_bytes,
            bytes, barrier);
}

// The words run one unit ahead of the codes: a consumer takes them before it needs them.
template <int kTokens, int kUnitTiles>
__device__ __forceinline__ void produce_copies(const BytesArguments& a, const BytesShared& shared,
                                               uint32_t rank, int place_index, int places, int step,
                                               int lane) {
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
        copy_words(a, shared.words + word.slot * kConsumerWarps * a.unit_bytes,
                   shared.words_full + word.slot * 8, first_n_tile, unit, unit + 1 == units, lane);
        word.advance(a.word_slots);
      }
      for (int half = 0; half < 2; ++half) {
        const uint32_t codes_full = shared.codes_full + code.slot * 8;
        wait_barrier(shared.codes_empty + code.slot * 8, code.parity ^ 1);
        if (lane == 0) arrive_expecting(codes_full, kCodeBytes);
        __syncwarp();
        copy_codes<kTokens>(a, shared.codes + code.slot * kCodeBytes, codes_full,
                            place.token_tile * kTokens, 2 * kt + half, rank, lane);
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

// ---- consumers ----

// A lane's words of a unit of its weight tile, and the registers of A made from them: step s of the
// unit's 8 kUnitTiles steps of 32 inputs.
template <int kFields>
struct PlaneWords {
  static constexpr int kUnitTiles = 1;
  uint32_t fields[kFields][4];

  __device__ __forceinline__ void load(uint32_t from, int planes, int, int lane) {
#pragma unroll
    for (int i = 0; i < kFields; ++i) {
      uint4 words = make_uint4(0, 0, 0, 0);
      if (i < planes) words = load_shared_16(from + (i * kLanes + lane) * 16);
      fields[i][0] = words.x;
      fields[i][1] = words.y;
      fields[i][2] = words.z;
      fields[i][3] = words.w;
    }
  }
  __device__ __forceinline__ void prepare(int) {
    merge_planes(fields);
  }
  __device__ __forceinline__ void step(int s, uint32_t (&registers)[4]) const {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      registers[r] = field_codes(fields, s, r);
      pin(registers[r]);
    }
  }
};

struct Base5Words {
  static constexpr int kUnitTiles = kBase5UnitTiles;
  uint32_t sets[kBase5UnitSets];

  __device__ __forceinline__ void load(uint32_t from, int, int tiles, int lane) {
#pragma unroll
    for (int i = 0; i < kBase5UnitSets / 4; ++i) {
      uint4 words = make_uint4(0, 0, 0, 0);
      if (i < base5_loads(tiles)) words = load_shared_16(from + (i * kLanes + lane) * 16);
      sets[4 * i] = words.x;
      sets[4 * i + 1] = words.y;
      sets[4 * i + 2] = words.z;
      sets[4 * i + 3] = words.w;
    }
  }
  __device__ __forceinline__ void prepare(int tiles) {
    gather_base5_sets(tiles, sets);
  }
  __device__ __forceinline__ void step(int s, uint32_t (&registers)[4]) const {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int at = 4 * s + r;
      registers[r] = expand_base5_set(sets[at / 3]).digits[at % 3];
      pin(registers[r]);
    }
  }
};

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

// ---- consumers with groups ----

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
      words.prepare(tiles);
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
    if (warp == 0) {
      produce_copies<kTokens, Words::kUnitTiles>(a, shared, rank, first, units, step, lane);
    } else if (kGroups) {
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
  static int resident[2] = {};  // devices of one process are alike
  return launch_blocks(bytes_kernel<kTokens, Words, kGroups>, a, schedule_size(a.schedule), cluster,
                       kSharedBytes<kTokens, kGroups>, &resident[cluster - 1], stream);
}

}  // namespace abq::runtime::cuda::wgmma
