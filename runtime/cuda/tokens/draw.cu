// A token drawn from each row of logits, as runtime/sampler.h draws it: one block a row.
//
// Weights are whole numbers, 2^40 for the highest logit, so that their sums do not depend on an
// order. Values are counted and weighed in bins of equal steps below the highest one. The prefix of
// the values in descending order that reaches a goal (a number of values, a weight) ends in one of
// the bins, which the sums of the bins tell; the values of that bin are listed, and bisection over
// the bits of the last value's order finds it there.
#include "runtime/cuda/device_memory.cuh"
#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/tokens/token_launchers.h"
#include "runtime/cuda/tokens/value_order.cuh"

namespace abq::runtime::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / kLanes;
constexpr float kTopWeight = 0x1p40f;
// Bins reach 28.4 below the highest logit (over the temperature), where weights are 1: 41 ln 2.
constexpr int kBins = 512;
constexpr float kBinsPerUnit = kBins / 28.4f;
// Values of a bin that are listed; the values of a larger one are made anew for each use.
constexpr int kListed = 7168;

struct Shared {
  uint64_t partial[2][kWarps];
  uint64_t bin_weights[kBins];
  uint64_t weights[kListed];
  uint32_t bin_counts[kBins];
  uint32_t orders[kListed];
  uint64_t above_goal;    // what the bins above the one in use give, in the goal's measure
  uint64_t above_weight;  // and their weight
  int bin;
  int listed;
  int found;
};

// The shortest prefix in descending order that reaches a goal.
struct Prefix {
  uint32_t order;   // of its last value
  uint64_t rest;    // what the values of this order have to give: goal - all above them
  uint64_t weight;  // of all above them
};

enum class Measure { kCount, kWeight };

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
  __device__ float units_below(float value) const {
    return (top - value) / temperature;
  }
  __device__ uint64_t weight_of(float value) const {
    return __float2ull_rn(expf(-units_below(value)) * kTopWeight);
  }
  // kBins or more: without weight.
  __device__ int bin_of(float value) const {
    return static_cast<int>(fminf(units_below(value) * kBinsPerUnit, 1e6f));
  }

  __device__ void fill_bins() {
    for (int i = threadIdx.x; i < kBins; i += kThreads) {
      shared.bin_weights[i] = 0;
      shared.bin_counts[i] = 0;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < columns; i += kThreads) {
      const float value = values[i];
      const int bin = bin_of(value);
      if (bin >= kBins) continue;
      atomicAdd(reinterpret_cast<unsigned long long*>(&shared.bin_weights[bin]), weight_of(value));
      atomicAdd(&shared.bin_counts[bin], 1u);
    }
    __syncthreads();
  }
  __device__ uint64_t bin_measure(Measure measure, int bin) const {
    return measure == Measure::kCount ? shared.bin_counts[bin] : shared.bin_weights[bin];
  }
  __device__ uint64_t total(Measure measure) {
    const int bin = static_cast<int>(threadIdx.x);
    return block_sum(bin < kBins ? bin_measure(measure, bin) : 0);
  }
  // The bin in which the prefix ends that reaches the goal; the first warp looks.
  __device__ void choose_bin(Measure measure, uint64_t goal) {
    constexpr int kOwn = kBins / kLanes;
    __syncthreads();
    if (threadIdx.x < kLanes) {
      const int first = static_cast<int>(threadIdx.x) * kOwn;
      uint64_t own = 0;
      uint64_t own_weight = 0;
      for (int i = first; i < first + kOwn; ++i) {
        own += bin_measure(measure, i);
        own_weight += shared.bin_weights[i];
      }
      uint64_t above = 0;  // of the lanes before
      uint64_t above_weight = 0;
      for (int lane = 0; lane < kLanes; ++lane) {
        const uint64_t other = __shfl_sync(kAllLanes, own, lane);
        const uint64_t other_weight = __shfl_sync(kAllLanes, own_weight, lane);
        above += lane < static_cast<int>(threadIdx.x) ? other : 0;
        above_weight += lane < static_cast<int>(threadIdx.x) ? other_weight : 0;
      }
      if (above < goal && goal <= above + own) {
        int bin = first;
        while (above + bin_measure(measure, bin) < goal) {
          above += bin_measure(measure, bin);
          above_weight += shared.bin_weights[bin];
          ++bin;
        }
        shared.bin = bin;
        shared.above_goal = above;
        shared.above_weight = above_weight;
      }
      if (threadIdx.x == 0) shared.listed = 0;
    }
    __syncthreads();
  }
  __device__ void list_bin() {
    for (int i = threadIdx.x; i < columns; i += kThreads) {
      const float value = values[i];
      if (bin_of(value) != shared.bin) continue;
      const int at = atomicAdd(&shared.listed, 1);
      if (at >= kListed) continue;
      shared.orders[at] = order_of(value);
      shared.weights[at] = weight_of(value);
    }
    __syncthreads();
  }
  // Sum of gives(order, weight) over the values of the bin.
  template <class Gives>
  __device__ uint64_t sum(const Gives& gives) {
    uint64_t own = 0;
    if (shared.listed <= kListed) {
      for (int i = threadIdx.x; i < shared.listed; i += kThreads)
        own += gives(shared.orders[i], shared.weights[i]);
    } else {
      for (int i = threadIdx.x; i < columns; i += kThreads) {
        const float value = values[i];
        if (bin_of(value) == shared.bin) own += gives(order_of(value), weight_of(value));
      }
    }
    return block_sum(own);
  }
  // All values together reach the goal; goal >= 1.
  __device__ Prefix search(Measure measure, uint64_t goal) {
    choose_bin(measure, goal);
    list_bin();
    const uint64_t above = shared.above_goal;
    const auto gives = [measure](uint64_t weight) {
      return measure == Measure::kCount ? uint64_t{1} : weight;
    };
    Prefix prefix{0, goal - above, shared.above_weight};
    for (int bit = 31; bit >= 0; --bit) {
      const uint32_t trial = prefix.order | (1u << bit);
      if (trial > top_order) continue;
      const uint64_t reached = sum([&](uint32_t order, uint64_t weight) {
        return order >= trial ? gives(weight) : uint64_t{0};
      });
      if (reached >= goal - above) prefix.order = trial;
    }
    prefix.rest -= sum([&](uint32_t order, uint64_t weight) {
      return order > prefix.order ? gives(weight) : uint64_t{0};
    });
    prefix.weight += sum([&](uint32_t order, uint64_t weight) {
      return order > prefix.order ? weight : uint64_t{0};
    });
    return prefix;
  }

  // Weight of the top_k highest.
  __device__ uint64_t total_weight(int top_k) {
    const uint64_t goal = static_cast<uint64_t>(top_k);
    if (top_k <= 0 || total(Measure::kCount) <= goal) return total(Measure::kWeight);
    const Prefix prefix = search(Measure::kCount, goal);
    return prefix.weight + prefix.rest * weight_of(value_of(prefix.order));
  }
  // Weight of the shortest prefix that has top_p of the total.
  __device__ uint64_t kept_weight(uint64_t total, float top_p) {
    if (top_p >= 1.0f) return total;
    const uint64_t limit =
        static_cast<uint64_t>(ceil(static_cast<double>(total) * static_cast<double>(top_p)));
    const Prefix prefix = search(Measure::kWeight, limit > 0 ? limit : 1);
    const uint64_t each = weight_of(value_of(prefix.order));
    return prefix.weight + (prefix.rest + each - 1) / each * each;
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
      if (equal && before == index) shared.found = i;
      __syncthreads();
      return shared.found;
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
  LogitsRow row{logits.data + logits.stride * blockIdx.x, columns,
                *reinterpret_cast<Shared*>(memory), draw.temperature};
  if (!row.find_highest()) {
    if (threadIdx.x == 0) ids[blockIdx.x] = -1;
    return;
  }
  Prefix last{row.top_order, 1, 0};
  uint64_t each = 1;
  if (draw.temperature > 0.0f) {
    row.fill_bins();
    const uint64_t kept = row.kept_weight(row.total_weight(draw.top_k), draw.top_p);
    const uint64_t before = static_cast<uint64_t>(static_cast<double>(kept) * draw.uniform);
    last = row.search(Measure::kWeight, (before < kept ? before : kept - 1) + 1);
    each = row.weight_of(value_of(last.order));
  }
  __syncthreads();
  const int id = row.find(last.order, (last.rest - 1) / each);
  if (threadIdx.x == 0) ids[blockIdx.x] = id;
}

}  // namespace

cudaError_t launch_draw(RowsIn logits, const TokenDraw* draws, int32_t* ids, int m, int columns,
                        cudaStream_t stream) {
  const cudaError_t allowed = allow_shared(draw_kernel, sizeof(Shared));
  if (allowed != cudaSuccess) return allowed;
  const LaunchShape shape{dim3(static_cast<unsigned>(m)), dim3(kThreads), sizeof(Shared)};
  return launch(draw_kernel, shape, stream, logits, draws, ids, columns);
}

}  // namespace abq::runtime::cuda
