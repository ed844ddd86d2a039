// Microseconds of attention at the shape of LLaMA-7B, printed with ABQ_KERNEL_TIMES=1.
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string_view>
#include <vector>

#include "attention_cases.h"
#include "runtime/cuda/attention/attention_launch.h"

namespace abq::runtime::cuda {
namespace {

constexpr int kLayers = 32;  // caches in turn, as the layers of a model

// Median microseconds of one of `count` calls captured into a graph.
double graph_microseconds(int count, const std::function<void(int, cudaStream_t)>& call) {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  for (int i = 0; i < count; ++i)
    call(i, stream);
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  REQUIRE(cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess);
  REQUIRE(cudaEventCreate(&begin) == cudaSuccess);
  REQUIRE(cudaEventCreate(&end) == cudaSuccess);
  std::vector<float> times;
  for (int repeat = 0; repeat < 12; ++repeat) {
    REQUIRE(cudaEventRecord(begin, stream) == cudaSuccess);
    REQUIRE(cudaGraphLaunch(executable, stream) == cudaSuccess);
    REQUIRE(cudaEventRecord(end, stream) == cudaSuccess);
    REQUIRE(cudaEventSynchronize(end) == cudaSuccess);
    float milliseconds = 0;
    REQUIRE(cudaEventElapsedTime(&milliseconds, begin, end) == cudaSuccess);
    if (repeat >= 2) times.push_back(milliseconds);
  }
  std::nth_element(times.begin(), times.begin() + 5, times.end());
  (void)cudaEventDestroy(begin);
  (void)cudaEventDestroy(end);
  (void)cudaGraphExecDestroy(executable);
  (void)cudaGraphDestroy(graph);
  (void)cudaStreamDestroy(stream);
  return static_cast<double>(times[5]) * 1000 / count;
}

struct Bench {
  AttentionLayer layer;
  int64_t capacity = 0;
  std::shared_ptr<std::byte> caches;
  std::shared_ptr<std::byte> fused;
  std::shared_ptr<std::byte> y;
  std::shared_ptr<std::byte> state;
  std::shared_ptr<std::byte> workspace;
  int64_t workspace_bytes = 0;
  AttentionInput input;

  Bench(int kv_bits, int64_t tokens, int m) {
    layer.heads = 32;
    layer.kv_heads = 32;
    layer.head_dim = 128;
    layer.kv_bits = kv_bits;
    capacity = (tokens + kCacheGranularity - 1) / kCacheGranularity * kCacheGranularity;
    const int64_t cache_bytes = capacity * cache_token_bytes(layer) * kLayers;
    caches = kernel_memory(cache_bytes);
    REQUIRE(cudaMemset(caches.get(), 0x11, static_cast<size_t>(cache_bytes)) == cudaSuccess);
    const int64_t stride = 3 * 4096;
    std::vector<float> rows(static_cast<size_t>(m * stride));
    for (size_t i = 0; i < rows.size(); ++i)
      rows[i] = static_cast<float>(i * 7919 % 1009) / 504.0f - 1.0f;
    fused = kernel_memory(static_cast<int64_t>(rows.size()) * 4);
    copy_to_kernels(fused.get(), rows.data(), static_cast<int64_t>(rows.size()) * 4);
    y = kernel_memory(static_cast<int64_t>(m) * 4096 * 4);
    workspace_bytes =
        std::max(prefill_workspace_bytes(layer, m), decode_workspace_bytes(layer, m, tokens));
    workspace = kernel_memory(workspace_bytes);
    const auto* const q = reinterpret_cast<const float*>(fused.get());
    input = {q, q + 4096, q + 8192, stride, stride, stride};
    std::vector<float> frequencies(64);
    for (size_t j = 0; j < frequencies.size(); ++j)
      frequencies[j] = 1.0f / static_cast<float>(1 + j * j);
    frequencies_ = kernel_memory(256);
    copy_to_kernels(frequencies_.get(), frequencies.data(), 256);
    layer.query_frequencies = reinterpret_cast<const float*>(frequencies_.get());
    layer.key_frequencies = layer.query_frequencies;
  }
  const SequenceState* at(int64_t position) {
    const SequenceState value{caches.get(), capacity, position};
    state = kernel_memory(sizeof(value));
    copy_to_kernels(state.get(), &value, sizeof(value));
    return reinterpret_cast<const SequenceState*>(state.get());
  }
  float* output() const { return reinterpret_cast<float*>(y.get()); }

 private:
  std::shared_ptr<std::byte> frequencies_;
};

// Which of decode_attention()'s launches are timed: both, or one of them again and again.
enum class Launches { kBoth, kSplit, kCombine };

double decode_microseconds(Bench& bench, int64_t position, Launches launches) {
  const SequenceState* const state = bench.at(position);
  const auto planes = kernel_memory(4096);
  const auto codes = kernel_memory(8 * 4096);
  const auto params = kernel_memory(4096);
  TokenTiles tokens{1, 4096, 8};
  tokens.planes = reinterpret_cast<uint32_t*>(planes.get());
  tokens.codes = reinterpret_cast<uint8_t*>(codes.get());
  tokens.scales = reinterpret_cast<float*>(params.get());
  tokens.zeros = reinterpret_cast<int32_t*>(params.get() + 16);
  tokens.sums = reinterpret_cast<int32_t*>(params.get() + 32);
  tokens.group_sums = reinterpret_cast<int32_t*>(params.get() + 64);
  const int64_t layer_bytes = cache_token_bytes(bench.layer);
  DecodeLaunch call;
  call.layer = bench.layer;
  call.input = bench.input;
  call.sequences = state;
  call.m = 1;
  call.max_tokens = position + 1;
  call.tokens = &tokens;
  call.workspace = reinterpret_cast<unsigned char*>(bench.workspace.get());
  return graph_microseconds(2 * kLayers, [&](int i, cudaStream_t stream) {
    call.layer_offset = i % kLayers * layer_bytes;
    if (launches != Launches::kCombine) REQUIRE(launch_decode_split(call, stream) == cudaSuccess);
    if (launches != Launches::kSplit) REQUIRE(launch_decode_combine(call, stream) == cudaSuccess);
  });
}

void time_decode(int kv_bits, int64_t position) {
  Bench bench(kv_bits, position + 1, 1);
  const double both = decode_microseconds(bench, position, Launches::kBoth);
  const double split = decode_microseconds(bench, position, Launches::kSplit);
  const double combine = decode_microseconds(bench, position, Launches::kCombine);
  const double bytes =
      static_cast<double>(position + 1) * static_cast<double>(cache_token_bytes(bench.layer));
  std::printf(
      "attention decode  kv%-2d position %5lld: %6.2f us, %5.0f GB/s; split alone %.2f, "
      "combine alone %.2f us\n",
      kv_bits, static_cast<long long>(position), both, bytes / both / 1000, split, combine);
}

void time_prefill(int kv_bits, int m) {
  Bench bench(kv_bits, m, m);
  const SequenceState* const state = bench.at(0);
  const int64_t layer_bytes = cache_token_bytes(bench.layer);
  const double us = graph_microseconds(4, [&](int i, cudaStream_t stream) {
    const Status status =
        prefill_attention(bench.layer, i * layer_bytes, bench.input, state, m, bench.output(), 4096,
                          {bench.workspace.get(), bench.workspace_bytes}, stream);
    REQUIRE(status.ok());
  });
  const double operations = 2.0 * m * m * 4096;  // q k and p v, half of each masked
  std::printf("attention prefill kv%-2d %d tokens: %7.1f us, %6.1f TFLOPS\n", kv_bits, m, us,
              operations / us / 1e6);
}

}  // namespace

TEST_CASE("times of attention at the shape of LLaMA-7B") {
  const char* const wanted = std::getenv("ABQ_KERNEL_TIMES");
  if (wanted == nullptr || std::string_view(wanted) != "1") return;
  for (const int kv_bits : {16, 8}) {
    for (const int64_t position : {128, 384, 8191})
      time_decode(kv_bits, position);
  }
  for (const int m : {128, 2048})
    time_prefill(8, m);
}

}  // namespace abq::runtime::cuda
