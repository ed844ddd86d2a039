#include "runtime/cuda/bench/cuda_device_attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "compute/cuda/find_device.h"
#include "runtime/cuda/attention/fused_prefill.h"
#include "runtime/cuda/bench/graph_timer.h"
#include "runtime/cuda/bench/random_bytes.h"
#include "runtime/cuda/cuda_status.h"
#include "runtime/cuda/device_array.h"

namespace abq::runtime::cuda {
namespace {

constexpr int kLaunches = 8;
constexpr int64_t kMostLayers = 8;  // caches in turn, as the layers of a model

AttentionLayer layer_of(const AttentionProblem& problem) {
  AttentionLayer layer;
  layer.heads = problem.heads;
  layer.kv_heads = problem.kv_heads;
  layer.head_dim = problem.head_dim;
  layer.query_bits = problem.query_bits;
  layer.kv_bits = problem.kv_bits;
  return layer;
}

// Memory of one problem, and calls on it.
class Subject {
 public:
  Subject(const AttentionProblem& problem, FusedAttention* fused)
      : problem_(problem), layer_(layer_of(problem)), fused_(fused) {}

  // Random inputs, and caches filled with the past.
  Status create() {
    const int64_t tokens = problem_.past + problem_.m;
    capacity_ = (tokens + kCacheGranularity - 1) / kCacheGranularity * kCacheGranularity;
    layer_bytes_ = cache_token_bytes(layer_);
    ABQ_ASSIGN_OR_RETURN(const int copies, cold_copies(capacity_ * layer_bytes_));
    layers_ = std::min<int64_t>(copies, kMostLayers);
    ABQ_ASSIGN_OR_RETURN(cache_,
                         DeviceArray<std::byte>::create(layers_ * capacity_ * layer_bytes_));
    ABQ_ASSIGN_OR_RETURN(input_, DeviceArray<float>::create(problem_.m * stride()));
    ABQ_ASSIGN_OR_RETURN(y_, DeviceArray<float>::create(problem_.m * columns()));
    ABQ_ASSIGN_OR_RETURN(frequencies_, DeviceArray<float>::create(layer_.head_dim / 2));
    ABQ_ASSIGN_OR_RETURN(state_, DeviceArray<SequenceState>::create(1));
    int64_t workspace = prefill_workspace_bytes(layer_, problem_.m);
    if (fused_ != nullptr)
      workspace = std::max(workspace, fused_workspace_bytes(*fused_, layer_, problem_.m, tokens));
    ABQ_ASSIGN_OR_RETURN(workspace_, DeviceArray<std::byte>::create(workspace));
    // Random signs and mantissas of numbers in [0.5, 1), and frequencies below 2^-3.
    ABQ_RETURN_IF_ERROR(fill(input_, 0x807fffffu, 0x3f000000u));
    ABQ_RETURN_IF_ERROR(fill(frequencies_, 0x01ffffffu, 0x3c000000u));
    layer_.query_frequencies = frequencies_.data();
    layer_.key_frequencies = frequencies_.data();
    for (int64_t at = 0; at < problem_.past; at += problem_.m) {
      ABQ_RETURN_IF_ERROR(place(at));
      const int64_t m = std::min(problem_.m, problem_.past - at);
      for (int64_t layer = 0; layer < layers_; ++layer)
        ABQ_RETURN_IF_ERROR(run_own(layer, m, nullptr));
    }
    return place(problem_.past);
  }

  Result<double> own_us() {
    return time_graph(kLaunches, [&](int i, cudaStream_t stream) {
      return run_own(i % layers_, problem_.m, stream);
    });
  }
  Result<double> cudnn_us() {
    return time_graph(kLaunches,
                      [&](int i, cudaStream_t stream) { return run_cudnn(i % layers_, stream); });
  }

  Result<double> difference() {
    ABQ_RETURN_IF_ERROR(run_own(0, problem_.m, nullptr));
    ABQ_ASSIGN_OR_RETURN(const std::vector<float> own, result());
    ABQ_RETURN_IF_ERROR(run_cudnn(0, nullptr));
    ABQ_ASSIGN_OR_RETURN(const std::vector<float> other, result());
    double squares = 0;
    double total = 0;
    for (size_t i = 0; i < own.size(); ++i) {
      const double x = static_cast<double>(own[i]);
      const double d = static_cast<double>(other[i]) - x;
      squares += d * d;
      total += x * x;
    }
    return std::sqrt(squares / total);
  }

 private:
  int64_t columns() const { return static_cast<int64_t>(layer_.heads) * layer_.head_dim; }
  int64_t kv_columns() const { return static_cast<int64_t>(layer_.kv_heads) * layer_.head_dim; }
  int64_t stride() const { return columns() + 2 * kv_columns(); }

  static Status fill(DeviceArray<float>& array, uint32_t keep, uint32_t set) {
    ABQ_RETURN_IF_CUDA_ERROR(fill_random(reinterpret_cast<uint32_t*>(array.data()),
                                         array.bytes() / 4, keep, set, nullptr),
                             "random operands of {} bytes", array.bytes());
    return {};
  }

  Status place(int64_t position) {
    const SequenceState state = {cache_.data(), capacity_, position};
    ABQ_RETURN_IF_CUDA_ERROR(
        cudaMemcpy(state_.data(), &state, sizeof(state), cudaMemcpyHostToDevice),
        "state of a sequence");
    return {};
  }

  AttentionInput input() const {
    const float* const q = input_.data();
    return {q, q + columns(), q + columns() + kv_columns(), stride(), stride(), stride()};
  }
  Workspace workspace() { return {workspace_.data(), workspace_.bytes()}; }

  Status run_own(int64_t layer, int64_t m, cudaStream_t stream) {
    return prefill_attention(layer_, layer * layer_bytes_, input(), state_.data(),
                             static_cast<int>(m), y_.data(), columns(), workspace(), stream);
  }
  Status run_cudnn(int64_t layer, cudaStream_t stream) {
    return fused_prefill_attention(*fused_, layer_, layer * layer_bytes_, input(), state_.data(),
                                   static_cast<int>(problem_.m), problem_.past + problem_.m,
                                   y_.data(), columns(), workspace(), stream);
  }

  Result<std::vector<float>> result() {
    std::vector<float> values(static_cast<size_t>(problem_.m * columns()));
    ABQ_RETURN_IF_CUDA_ERROR(cudaDeviceSynchronize(), "attention");
    ABQ_RETURN_IF_CUDA_ERROR(
        cudaMemcpy(values.data(), y_.data(), values.size() * sizeof(float), cudaMemcpyDeviceToHost),
        "result of attention");
    return values;
  }

  const AttentionProblem& problem_;
  AttentionLayer layer_;
  FusedAttention* fused_;
  int64_t capacity_ = 0;
  int64_t layer_bytes_ = 0;  // a token
  int64_t layers_ = 1;
  DeviceArray<std::byte> cache_;
  DeviceArray<float> input_;
  DeviceArray<float> y_;
  DeviceArray<float> frequencies_;
  DeviceArray<SequenceState> state_;
  DeviceArray<std::byte> workspace_;
};

}  // namespace

Result<std::unique_ptr<CudaDeviceAttention>> CudaDeviceAttention::create() {
  ABQ_RETURN_IF_ERROR(compute::cuda::find_cuda_device().status());
  Result<std::unique_ptr<FusedAttention>> fused = FusedAttention::create();
  if (!fused.ok()) {
    return std::unique_ptr<CudaDeviceAttention>(
        new CudaDeviceAttention(nullptr, fused.status().message()));
  }
  std::string description = "cuDNN " + (*fused)->version();
  return std::unique_ptr<CudaDeviceAttention>(
      new CudaDeviceAttention(std::move(fused).value(), std::move(description)));
}

Result<AttentionTiming> CudaDeviceAttention::time(const AttentionProblem& problem) {
  const AttentionLayer layer = layer_of(problem);
  const int64_t tokens = problem.past + problem.m;
  ABQ_RETURN_IF_ERROR(check_attention(layer));
  AttentionTiming timing;
  FusedAttention* fused = fused_.get();
  if (fused == nullptr) {
    timing.cudnn_missing = description_;
  } else if (!fused_can_run(layer, tokens)) {
    timing.cudnn_missing = "too much memory";
    fused = nullptr;
  } else if (const Status status = fused->prepare(fused_shape(layer, problem.m)); !status.ok()) {
    timing.cudnn_missing = status.message();
    fused = nullptr;
  }
  Subject subject(problem, fused);
  ABQ_RETURN_IF_ERROR(subject.create());
  ABQ_ASSIGN_OR_RETURN(timing.own_us, subject.own_us());
  if (fused == nullptr) return timing;
  ABQ_ASSIGN_OR_RETURN(timing.cudnn_us, subject.cudnn_us());
  ABQ_ASSIGN_OR_RETURN(timing.difference, subject.difference());
  timing.chooses_cudnn = fused_is_faster(layer, problem.m, tokens);
  return timing;
}

}  // namespace abq::runtime::cuda
