// What one thread of a block does in each phase of the Hadamard transform, for host and device:
// tests run on the CPU what the kernel runs.
//
// A block takes whole segments of order * length neighbours into shared memory: load, then rounds
// of sums and differences at distances 1, 2, 4, ... length / 2, two of them at a time, then the
// mixing of parts that writes the result. Between phases all threads meet. The additions and their
// order are those of compute/cpu/isa/hadamard.h, so that the results have the CPU's bits.
#pragma once

#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdint>

#include "compute/cuda/portable_math.cuh"

namespace abq::compute::cuda {

constexpr int kHadamardThreads = 256;
// Floats that a block takes where a segment is not longer.
constexpr int64_t kHadamardBlockFloats = 2048;
constexpr int kMixedRows = 4;  // of the small matrix, by a thread at a time

struct HadamardTask {
  const float* x;
  const float* mix;  // [order, order]; null for order 1
  float* y;
  int64_t total;  // floats, a multiple of size()
  float scale;
  int order;   // 1, or a multiple of kMixedRows
  int length;  // a power of two

  ABQ_HOST_DEVICE int64_t size() const { return static_cast<int64_t>(order) * length; }
  // Floats of a whole block: as many segments as fit, at least one.
  ABQ_HOST_DEVICE int64_t block_floats() const {
    const int64_t segments = kHadamardBlockFloats / size();
    return (segments > 0 ? segments : 1) * size();
  }
};

// One block's floats: those from `first` on, and in shared memory `values`.
struct HadamardBlock {
  HadamardTask task;
  int64_t first;
  int count;  // a multiple of task.size()
  float* values;
  int thread;

  ABQ_HOST_DEVICE void load() const {
    for (int i = thread; i < count; i += kHadamardThreads)
      values[i] = task.x[first + i];
  }

  // Sums and differences at distance 1.
  ABQ_HOST_DEVICE void first_round() const {
    for (int i = thread; i < count / 2; i += kHadamardThreads)
      butterfly(2 * i, 1);
  }

  // At distances h and 2 h, h a power of two.
  ABQ_HOST_DEVICE void two_rounds(int h) const {
    for (int i = thread; i < count / 4; i += kHadamardThreads) {
      const int at = 4 * (i & ~(h - 1)) + (i & (h - 1));
      butterfly(at, h);
      butterfly(at + 2 * h, h);
      butterfly(at, 2 * h);
      butterfly(at + h, 2 * h);
    }
  }

  ABQ_HOST_DEVICE void store() const {
    for (int i = thread; i < count; i += kHadamardThreads)
      task.y[first + i] = multiply_rn(values[i], task.scale);
  }

  // Parts i of a segment: scale * sum over j of mix[i, j] * part j.
  ABQ_HOST_DEVICE void store_mixed() const {
    const int quads = task.order / kMixedRows;
    for (int item = thread; item < count / kMixedRows; item += kHadamardThreads) {
      const int column = item % task.length;
      const int row = item / task.length % quads * kMixedRows;
      const int segment = item / task.length / quads * task.order * task.length;
      const float* const signs = task.mix + row * task.order;
      float sums[kMixedRows] = {};
      for (int j = 0; j < task.order; ++j) {
        const float value = values[segment + j * task.length + column];
        for (int r = 0; r < kMixedRows; ++r)
          sums[r] = fmaf(value, signs[r * task.order + j], sums[r]);  // the product is exact
      }
      for (int r = 0; r < kMixedRows; ++r)
        task.y[first + segment + (row + r) * task.length + column] =
            multiply_rn(sums[r], task.scale);
    }
  }

 private:
  ABQ_HOST_DEVICE void butterfly(int at, int distance) const {
    const float a = values[at];
    const float b = values[at + distance];
    values[at] = add_rn(a, b);
    values[at + distance] = subtract_rn(a, b);
  }
};

// The phases of a block in order; meet() makes all threads wait for each other.
template <class Block, class Meet>
ABQ_HOST_DEVICE void run_hadamard(const Block& block, const Meet& meet) {
  block.load();
  meet();
  int h = 1;
  bool odd = false;  // whether length is 2 to an odd power
  for (int length = block.task.length; length > 1; length /= 2)
    odd = !odd;
  if (odd) {
    block.first_round();
    meet();
    h = 2;
  }
  for (; h < block.task.length; h *= 4) {
    block.two_rounds(h);
    meet();
  }
  if (block.task.order == 1) {
    block.store();
  } else {
    block.store_mixed();
  }
}

}  // namespace abq::compute::cuda
