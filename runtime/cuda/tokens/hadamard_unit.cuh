// The rounds of the Hadamard transform as one thread of a block does them, for host and device:
// tests run on the CPU what the kernel runs.
//
// The additions and their order are those of compute/cpu/isa/hadamard.h (docs/rotation.md), so that
// the results have the CPU's bits.
#pragma once

#include <cuda_runtime.h>

#include "runtime/cuda/tokens/hadamard_row_plan.h"
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

// What a block has in shared memory, and its share of it.
struct HadamardUnit {
  HadamardMatrix matrix;
  HadamardBlockPlan plan;
  int thread;
  bool vector;    // rows may be read and written 16 bytes at a time
  float* values;  // the unit, padded
  HadamardPadding at;

  ABQ_HOST_DEVICE HadamardUnit(const HadamardMatrix& h, const HadamardBlockPlan& p,
                               int thread_index, bool vectors, unsigned char* memory)
      : matrix(h),
        plan(p),
        thread(thread_index),
        vector(vectors),
        values(reinterpret_cast<float*>(memory)),
        at(HadamardPadding::of(h.length)) {}

  // --- The unit at hand
  HadamardShare share;
  const float* x = nullptr;  // float 0
  float* y = nullptr;        // float share.first

  // A unit of rows that are written, for a block that takes slice `slice` of it.
  ABQ_HOST_DEVICE void take_slice(const HadamardRows& rows, const HadamardPlan& p, int slice,
                                  int unit) {
    const int64_t row = unit / p.units;
    const int of_row = unit % p.units;
    share = hadamard_slice(matrix, rows.columns, p, slice, of_row);
    x = rows.x + row * rows.x_stride + of_row * p.unit;
    y = rows.y + row * rows.y_stride + of_row * p.unit;
  }
  // The tiles of block `rank` of a row; what is mixed replaces the values, without padding. Returns
  // the column of float 0.
  ABQ_HOST_DEVICE int take_tiles(const HadamardRows& rows, const HadamardRowPlan& p, int row,
                                 int rank) {
    int start = 0;
    share = hadamard_tiles(matrix, rows.columns, p.tiles, rank, &start);
    x = rows.x + row * rows.x_stride + start;
    y = values;
    return start;
  }

  // Eight neighbours and the rounds at distances 1, 2 and 4, as far as there are so many.
  ABQ_HOST_DEVICE void load() const {
    for (int i = 8 * thread; i < share.count; i += 8 * plan.threads) {
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
    for (int i = thread; i < share.count >> kRounds; i += plan.threads) {
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
    for (int i = 4 * thread; i < share.count; i += 4 * plan.threads) {
      const float4 four = *reinterpret_cast<const float4*>(values + at(i));
      const float v[4] = {four.x, four.y, four.z, four.w};
      write<4>(i, v);
    }
  }

  // Floats i..i+kCount-1 of the unit, as far as they are the share's. A vector is all or nothing.
  template <int kCount>
  ABQ_HOST_DEVICE void write(int i, const float* v) const {
    float scaled[kCount];
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
    for (int b = 0; b < kCount; ++b)
      scaled[b] = compute::cuda::multiply_rn(v[b], matrix.scale);
    if (i < share.first) return;
    float* const to = y + (i - share.first);
    if constexpr (kCount == 4) {
      if (vector) {
        if (i < share.last)
          *reinterpret_cast<float4*>(to) = make_float4(scaled[0], scaled[1], scaled[2], scaled[3]);
        return;
      }
    }
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
    for (int b = 0; b < kCount; ++b)
      if (i + b < share.last) to[b] = scaled[b];
  }

 private:
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
      if (vector && i + half < share.count) {
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
          if (i + b < share.count) v[b] = x[i + b];
      }
    }
  }
};

// The phases up to the mixing, in order; meet() makes all threads wait for each other.
template <class Block, class Meet>
ABQ_HOST_DEVICE void transform_rounds(const Block& block, const Meet& meet) {
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
}

}  // namespace abq::runtime::cuda
