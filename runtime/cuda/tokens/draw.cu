// A token drawn from each row of logits, as runtime/sampler.h draws it: one block a row.
//
// Weights are whole numbers, 2^40 for the highest logit, so that their sums do not depend on an
// order. Values whose weight rounds to 0 never count; the others are listed in shared memory once,
// or, where they are too many, made again for each use. A prefix of the values in descending order
// that reaches a goal (a number of values, a weight) is found by bisection over the bits of the
// last value's order.
#include "runtime/cuda/device_memory.cuh"
#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/tokens/token_launchers.h"
#include "runtime/cuda/tokens/value_order.cuh"

namespace abq::runtime::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / kLanes;
constexpr int kListed = 8192;
constexpr float kTopWeight = 0x1p40f;

struct Shared {
  uint64_t partial[2][kWarps];
  uint64_t weights[kListed];
  uint32_t orders[kListed];
  int listed;
};

// The shortest prefix in descending order that reaches a goal.
struct Prefix {
  uint32_t order;  // of its last value
  uint64_t rest;   // what the values of this order have to give: goal - all above them
};

struct LogitsRow {
  const float* values;
  int columns;
  Shared& shared;
  float temperature;
  uint32_t top_order = 0;  // of the highest value
  float top = 0.0f;
  int turn = 0;  // of the two sets of partial sums

  __device__ uint64_t block_sum(uint64_t own) {
    turn ^= 1;
#pragma unroll
    for (int offset = 1; offset < kLanes; offset *= 2)
      own += __shfl_xor_sync(kAllLanes, own, offset);
    if (threadIdx.x % kLanes == 0) shared.partial[turn][threadIdx.x / kLanes] = own;
    __syncthreads();
    uint64_t sum = shared.partial[turn][threadIdx.x % kLanes];
#pragma unroll
    for (int offset = 1; offset < kLanes; offset *= 2)
      sum += __shfl_xor_sync(kAllLanes, sum, offset);
    return sum;
  }
  // Whether all values are finite; then the highest is known.
  __device__ bool find_highest() {
    uint32_t order = 0;
    bool finite = true;
    for (int i = threadIdx.x; i < columns; i += kThreads) {
      const float value = values[i];
      finite = finite && isfinite(value);
      order = max(order, order_of(value));
    }
    order = __reduce_max_sync(kAllLanes, order);
    if (threadIdx.x % kLanes == 0) shared.partial[0][threadIdx.x / kLanes] = order;
    const bool all_finite = __syncthreads_and(finite);
    order = static_cast<uint32_t>(shared.partial[0][threadIdx.x % kLanes]);
    top_order = __reduce_max_sync(kAllLanes, order);
    top = value_of(top_order);
    return all_finite;
  }
  __device__ uint64_t weight_of(float value) const {
    return __float2ull_rn(expf((value - top) / temperature) * kTopWeight);
  }

  __device__ void list() {
    for (int first = 0; first < columns; first += kThreads) {
      const int i = first + static_cast<int>(threadIdx.x);
      const float value = i < columns ? values[i] : top;
      const uint64_t weight = i < columns ? weight_of(value) : 0;
      const uint32_t lanes = __ballot_sync(kAllLanes, weight > 0);
      if (lanes == 0) continue;
      int at = 0;
      if (threadIdx.x % kLanes == 0) at = atomicAdd(&shared.listed, __popc(lanes));
      at = __shfl_sync(kAllLanes, at, 0) + __popc(lanes & ((1u << (threadIdx.x % kLanes)) - 1));
      if (weight > 0 && at < kListed) {
        shared.orders[at] = order_of(value);
        shared.weights[at] = weight;
      }
    }
    __syncthreads();
  }
  // Sum of measure(order, weight) over the values.
  template <class Measure>
  __device__ uint64_t sum(const Measure& measure) {
    uint64_t own = 0;
    if (shared.listed <= kListed) {
      for (int i = threadIdx.x; i < shared.listed; i += kThreads)
        own += measure(shared.orders[i], shared.weights[i]);
    } else {
      for (int i = threadIdx.x; i < columns; i += kThreads)
        own += measure(order_of(values[i]), weight_of(values[i]));
    }
    return block_sum(own);
  }
  // `gives(weight)` is what a value adds; all together reach the goal.
  template <class Gives>
  __device__ Prefix search(uint64_t goal, const Gives& gives) {
    Prefix prefix{0, goal};
    for (int bit = 31; bit >= 0; --bit) {
      const uint32_t trial = prefix.order | (1u << bit);
      if (trial > top_order) continue;
      const uint64_t reached =
          sum([&](uint32_t order, uint64_t weight) { return order >= trial ? gives(weight) : 0; });
      if (reached >= goal) prefix.order = trial;
    }
    prefix.rest -= sum(
        [&](uint32_t order, uint64_t weight) { return order > prefix.order ? gives(weight) : 0; });
    return prefix;
  }
  __device__ Prefix search_weight(uint64_t goal) {
    return search(goal, [](uint64_t weight) { return weight; });
  }

  // Weight of the top_k highest.
  __device__ uint64_t total_weight(int top_k) {
    const auto one = [](uint64_t weight) { return uint64_t{weight > 0}; };
    const uint64_t goal = static_cast<uint64_t>(top_k);
    if (top_k <= 0 || sum([&](uint32_t, uint64_t weight) { return one(weight); }) <= goal)
      return sum([](uint32_t, uint64_t weight) { return weight; });
    const Prefix prefix = search(goal, one);
    return prefix.rest * weight_of(value_of(prefix.order)) +
           sum([&](uint32_t order, uint64_t weight) { return order > prefix.order ? weight : 0; });
  }
  // Weight of the shortest prefix that has top_p of the total.
  __device__ uint64_t kept_weight(uint64_t total, float top_p) {
    if (top_p >= 1.0f) return total;
    const uint64_t limit =
        static_cast<uint64_t>(ceil(static_cast<double>(total) * static_cast<double>(top_p)));
    const uint64_t goal = limit > 0 ? limit : 1;
    const Prefix prefix = search_weight(goal);
    const uint64_t each = weight_of(value_of(prefix.order));
    return goal - prefix.rest + (prefix.rest + each - 1) / each * each;
  }
  // Column of value number `index` of those of this order.
  __device__ int find(uint32_t order, uint64_t index) {
    for (int first = 0; first < columns; first += kThreads) {
      const int i = first + static_cast<int>(threadIdx.x);
      const bool equal = i < columns && order_of(values[i]) == order;
      const uint64_t count = static_cast<uint64_t>(__syncthreads_count(equal));
      if (index >= count) {
        index -= count;
        continue;
      }
      const uint32_t lanes = __ballot_sync(kAllLanes, equal);
      const int warp = static_cast<int>(threadIdx.x) / kLanes;
      const int lane = static_cast<int>(threadIdx.x) % kLanes;
      if (lane == 0) shared.partial[0][warp] = static_cast<uint64_t>(__popc(lanes));
      __syncthreads();
      uint64_t before = static_cast<uint64_t>(__popc(lanes & ((1u << lane) - 1)));
      for (int other = 0; other < warp; ++other)
        before += shared.partial[0][other];
      if (equal && before == index) shared.listed = i;
      __syncthreads();
      return shared.listed;
    }
    return -1;  // not reached: the searches end on values of the row
  }
};

__global__ void __launch_bounds__(kThreads)
    draw_kernel(RowsIn logits, const TokenDraw* draws, int32_t* ids, int columns) {
  extern __shared__ __align__(16) uint8_t memory[];
  release_next();
  wait_for_previous();
  const TokenDraw draw = draws[blockIdx.x];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  LogitsRow row{logits.data + logits.stride * blockIdx.x, columns, shared, draw.temperature};
  if (threadIdx.x == 0) shared.listed = 0;
  if (!row.find_highest()) {
    if (threadIdx.x == 0) ids[blockIdx.x] = -1;
    return;
  }
  Prefix last{row.top_order, 1};
  uint64_t each = 1;
  if (draw.temperature > 0.0f) {
    row.list();
    const uint64_t kept = row.kept_weight(row.total_weight(draw.top_k), draw.top_p);
    const uint64_t before = static_cast<uint64_t>(static_cast<double>(kept) * draw.uniform);
    last = row.search_weight((before < kept ? before : kept - 1) + 1);
    each = row.weight_of(value_of(last.order));
  }
  __syncthreads();
  const int id = row.find(last.order, (last.rest - 1) / each);
  if (threadIdx.x == 0) ids[blockIdx.x] = id;
}

}  // namespace

cudaError_t launch_draw(RowsIn logits, const TokenDraw* draws, int32_t* ids, int m, int columns,
                        cudaStream_t stream) {
  static const cudaError_t allowed = cudaFuncSetAttribute(
      draw_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(sizeof(Shared)));
  if (allowed != cudaSuccess) return allowed;
  const LaunchShape shape{dim3(static_cast<unsigned>(m)), dim3(kThreads), sizeof(Shared)};
  return launch(draw_kernel, shape, stream, logits, draws, ids, columns);
}

}  // namespace abq::runtime::cuda
