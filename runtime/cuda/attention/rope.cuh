// Rotary embedding of whole rows, where it does not feed attention.
#pragma once

#include "runtime/cuda/attention/attention_launch.h"
#include "runtime/cuda/attention/rotation.cuh"
#include "runtime/cuda/attention/warp.cuh"

namespace abq::runtime::cuda {

inline constexpr int kRopeThreads = 128;
inline constexpr int kRopeHeads = 8;  // of a block

// Grid (rows, groups of heads). A thread keeps its angle for all heads of its block.
__global__ void __launch_bounds__(kRopeThreads) rope_rows(const RopeLaunch args) {
  release_next();
  wait_for_previous();
  const int row = static_cast<int>(blockIdx.x);
  const int64_t position =
      args.batched ? args.sequences[row].position : args.sequences[0].position + row;
  const int half = args.head_dim / 2;
  const int heads = args.columns / args.head_dim;
  const int first_head = static_cast<int>(blockIdx.y) * kRopeHeads;
  for (int j = static_cast<int>(threadIdx.x); j < half; j += kRopeThreads) {
    const Rotation r = rotation(position, args.frequencies[j]);
    for (int head = first_head; head < min(heads, first_head + kRopeHeads); ++head) {
      const int64_t column = static_cast<int64_t>(head) * args.head_dim + j;
      float low = args.x[row * args.x_stride + column];
      float high = args.x[row * args.x_stride + column + half];
      rotate_pair(r, low, high);
      args.y[row * args.y_stride + column] = low;
      args.y[row * args.y_stride + column + half] = high;
    }
  }
}

}  // namespace abq::runtime::cuda
