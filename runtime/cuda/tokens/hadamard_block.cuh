// What one thread of a block does in each phase of the Hadamard transform, for host and device:
// tests run on the CPU what the kernel runs.
//
// The additions and their order are those of compute/cpu/isa/hadamard.h (docs/rotation.md), so that
// the results have the CPU's bits.
#pragma once

#include <cuda_runtime.h>

#include "runtime/cuda/tokens/hadamard_plan.h"
#include "runtime/cuda/tokens/token_math.h"

namespace abq::runtime::cuda {

// Rows `stride` floats apart; y may be x where the plan has one slice.
struct HadamardRows {
  const float* x;
  int64_t x_stride;
  float* y;
  int64_t y_stride;
  int m;
  int columns;
  bool vector;  // bases are multiples of 16 bytes, strides and columns of 4
};

struct HadamardBlock {
  HadamardRows rows;
  HadamardMatrix matrix;
  HadamardPlan plan;
  int slice;
  int thread;
  float* values;      // the unit, padded
  float* kept_signs;  // of the slice, where they are staged
  HadamardPadding at;

  ABQ_HOST_DEVICE HadamardBlock(const HadamardRows& all, const HadamardMatrix& h,
                                const HadamardPlan& p, int slice_index, int thread_index,
                                unsigned char* memory)
      : rows(all),
        matrix(h),
        plan(p),
        slice(slice_index),
        thread(thread_index),
        values(reinterpret_cast<float*>(memory)),
        kept_signs(reinterpret_cast<float*>(memory + p.value_bytes)),
        at(HadamardPadding::of(h.length)) {}

  // --- What the unit at hand is
  const float* x = nullptr;
  float* y = nullptr;
  int count = 0;  // floats

  ABQ_HOST_DEVICE void choose(int unit) {
    const int64_t row = unit / plan.units;
    const int first = unit % plan.units * plan.unit;
    const int rest = rows.columns - first;
    x = rows.x + row * rows.x_stride + first;
    y = rows.y + row * rows.y_stride + first;
    count = rest < plan.unit ? rest : plan.unit;
  }

  ABQ_HOST_DEVICE int quads() const {
    const int rest = matrix.order / kHadamardRows - slice * plan.quads;
    return rest < plan.quads ? rest : plan.quads;
  }
  ABQ_HOST_DEVICE const float4* signs() const {
    return reinterpret_cast<const float4*>(matrix.signs) +
           static_cast<int64_t>(slice) * plan.quads * matrix.order;
  }

  // Weights, as it were: nobody writes them.
  ABQ_HOST_DEVICE void stage_signs() const {
    if (!plan.staged) return;
    const float4* const from = signs();
    for (int i = thread; i < quads() * matrix.order; i += plan.threads)
      reinterpret_cast<float4*>(kept_signs)[i] = from[i];
  }

  // Eight neighbours and the rounds at distances 1, 2 and 4, as far as there are so many.
  ABQ_HOST_DEVICE void load() const {
    for (int i = 8 * thread; i < count; i += 8 * plan.threads) {
      float v[8] = {};
      read_eight(i, v);
      if (matrix.length > 1) round_in<1>(v);
      if (matrix.length > 2) round_in<2>(v);
      if (matrix.length > 4) round_in<4>(v);
      *reinterpret_cast<float4*>(values + at(i)) = make_float4(v[0], v[1], v[2], v[3]);
      *reinterpret_cast<float4*>(values + at(i + 4)) = make_float4(v[4], v[5], v[6], v[7]);
    }
  }

  // The rounds at distances 2^log, 2^(log + 1), ... : kRounds of them.
  template <int kRounds>
  ABQ_HOST_DEVICE void rounds(int log) const {
    constexpr int kPoints = 1 << kRounds;
    for (int i = thread; i < count >> kRounds; i += plan.threads) {
      const int first = ((i >> log) << (log + kRounds)) + (i & ((1 << log) - 1));
      float v[kPoints];
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
      for (int p = 0; p < kPoints; ++p)
        v[p] = values[at(first + (p << log))];
      round_in<1>(v);
      if constexpr (kRounds > 1) round_in<2>(v);
      if constexpr (kRounds > 2) round_in<4>(v);
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
      for (int p = 0; p < kPoints; ++p)
        values[at(first + (p << log))] = v[p];
    }
  }

  // Order 1: the result is there but for its scale.
  ABQ_HOST_DEVICE void store() const {
    for (int i = 4 * thread; i < count; i += 4 * plan.threads) {
      const float4 four = *reinterpret_cast<const float4*>(values + at(i));
      const float v[4] = {four.x, four.y, four.z, four.w};
      write<4>(i, v);
    }
  }

  // Parts i of a segment: scale * sum over j, from 0 on, of H_order[i, j] * part j.
  template <int kColumns>
  ABQ_HOST_DEVICE void mix() const {
    // Two calls, so that the compiler knows which memory each of them reads.
    if (plan.staged) {
      mix_by<kColumns>(reinterpret_cast<const float4*>(kept_signs));
    } else {
      mix_by<kColumns>(signs());
    }
  }

 private:
  template <int kColumns>
  ABQ_HOST_DEVICE void mix_by(const float4* from) const {
    const int of_slice = quads();
    const int groups = matrix.length / kColumns;
    const int items = count / matrix.size() * of_slice * groups;
    const int step = at(matrix.length);
    for (int item = thread; item < items; item += plan.threads) {
      const int column = item % groups * kColumns;
      const int quad = item / groups % of_slice;
      const int segment = item / groups / of_slice * matrix.size();
      const float* part = values + at(segment + column);
      float sums[kHadamardRows][kColumns] = {};
      const float4* const row = from + quad * matrix.order;
#ifdef __CUDA_ARCH__
#pragma unroll 4
#endif
      for (int j = 0; j < matrix.order; ++j) {
        add_part<kColumns>(row[j], part, sums);
        part += step;
      }
      const int to = segment + (slice * plan.quads + quad) * kHadamardRows * matrix.length + column;
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
      for (int r = 0; r < kHadamardRows; ++r)
        write<kColumns>(to + r * matrix.length, sums[r]);
    }
  }

  // Sums and differences at a distance within an array whose length is a multiple of twice that.
  template <int kDistance, int kPoints>
  ABQ_HOST_DEVICE static void round_in(float (&v)[kPoints]) {
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
    for (int p = 0; p < kPoints; ++p) {
      if ((p & kDistance) != 0) continue;
      const float a = v[p];
      const float b = v[p + kDistance];
      v[p] = compute::cuda::add_rn(a, b);
      v[p + kDistance] = compute::cuda::subtract_rn(a, b);
    }
  }

  // Floats i..i+7 of the unit, 0 beyond its end.
  ABQ_HOST_DEVICE void read_eight(int i, float (&v)[8]) const {
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
    for (int half = 0; half < 8; half += 4) {
      if (rows.vector && i + half < count) {
        const float4 four = *reinterpret_cast<const float4*>(x + i + half);
        v[half] = four.x;
        v[half + 1] = four.y;
        v[half + 2] = four.z;
        v[half + 3] = four.w;
      } else {
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
        for (int b = half; b < half + 4; ++b)
          if (i + b < count) v[b] = x[i + b];
      }
    }
  }

  template <int kCount>
  ABQ_HOST_DEVICE void write(int i, const float (&v)[kCount]) const {
    float scaled[kCount];
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
    for (int b = 0; b < kCount; ++b)
      scaled[b] = compute::cuda::multiply_rn(v[b], matrix.scale);
    if constexpr (kCount == 4) {
      if (rows.vector) {
        *reinterpret_cast<float4*>(y + i) = make_float4(scaled[0], scaled[1], scaled[2], scaled[3]);
        return;
      }
    }
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
    for (int b = 0; b < kCount; ++b)
      if (i + b < count) y[i + b] = scaled[b];
  }

  // Products with 1 and -1 are exact, so that fusing them changes nothing.
  template <int kColumns>
  ABQ_HOST_DEVICE static void add_part(const float4& sign, const float* part,
                                       float (&sums)[kHadamardRows][kColumns]) {
    float v[kColumns];
    if constexpr (kColumns == 4) {
      const float4 four = *reinterpret_cast<const float4*>(part);
      v[0] = four.x;
      v[1] = four.y;
      v[2] = four.z;
      v[3] = four.w;
    } else {
      v[0] = *part;
    }
    const float of_row[kHadamardRows] = {sign.x, sign.y, sign.z, sign.w};
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
    for (int r = 0; r < kHadamardRows; ++r) {
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
      for (int c = 0; c < kColumns; ++c)
        sums[r][c] = fused_multiply_add(v[c], of_row[r], sums[r][c]);
    }
  }
};

// The phases of a unit in order; meet() makes all threads wait for each other.
template <class Block, class Meet>
ABQ_HOST_DEVICE void transform_unit(const Block& block, const Meet& meet) {
  block.load();
  meet();
  int log = 3;
  while ((1 << log) < block.matrix.length) {
    const int left = block.matrix.length >> log;  // 2 to the number of rounds left
    if (left >= 8) {
      block.template rounds<3>(log);
      log += 3;
    } else if (left == 4) {
      block.template rounds<2>(log);
      log += 2;
    } else {
      block.template rounds<1>(log);
      log += 1;
    }
    meet();
  }
  if (block.matrix.order == 1) {
    block.store();
  } else if (block.plan.columns == 4) {
    block.template mix<4>();
  } else {
    block.template mix<1>();
  }
}

}  // namespace abq::runtime::cuda
