// ABQ_KERNEL_TIMES=1: microseconds of decode linears beside a kernel that only reads as many bytes.
// Weights rotate through more than twice the L2 cache; a graph holds 200 launches.
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string_view>

#include "runtime/cuda/bench/read_kernel.h"
#include "runtime/cuda/linear/bytes_launchers.h"
#include "runtime/cuda/linear/bytes_tokens.h"
#include "runtime/cuda/linear/launchers.h"
#include "tests/runtime/cuda/linear_rig.h"

namespace abq::runtime::cuda {
namespace {

constexpr int kLaunches = 200;
constexpr int64_t kColdBytes = int64_t{130} << 20;

using Launch = std::function<cudaError_t(int turn, cudaStream_t stream)>;

// Median of replays, microseconds a launch; negative: what failed, as minus the CUDA error.
double time_us(const Launch& launch) {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
  REQUIRE(cudaEventCreate(&begin) == cudaSuccess);
  REQUIRE(cudaEventCreate(&end) == cudaSuccess);
  // Code is loaded at its first launch, which a capture must not be.
  REQUIRE(launch(0, stream) == cudaSuccess);
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  for (int i = 0; i < kLaunches; ++i)
    REQUIRE(launch(i, stream) == cudaSuccess);
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  REQUIRE(cudaGraphInstantiate(&replay, graph, 0) == cudaSuccess);
  std::vector<float> times;
  for (int i = 0; i < 7; ++i) {
    (void)cudaEventRecord(begin, stream);
    (void)cudaGraphLaunch(replay, stream);
    (void)cudaEventRecord(end, stream);
    REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
    float milliseconds = 0;
    (void)cudaEventElapsedTime(&milliseconds, begin, end);
    if (i >= 2) times.push_back(milliseconds);
  }
  (void)cudaGraphExecDestroy(replay);
  (void)cudaGraphDestroy(graph);
  (void)cudaEventDestroy(begin);
  (void)cudaEventDestroy(end);
  (void)cudaStreamDestroy(stream);
  std::sort(times.begin(), times.end());
  return 1000.0 * static_cast<double>(times[times.size() / 2]) / kLaunches;
}

// Random weights of one shape, many times over.
struct Rotation {
  std::vector<std::unique_ptr<DeviceTiles>> copies;

  Rotation(const quant::WeightSpec& spec, int64_t n, int64_t k) {
    const StoredWeights shape{spec, quant::PackedLayout::for_weights(spec, n, k), {}, {}, {}};
    int64_t bytes = 0;
    while (bytes < kColdBytes) {
      copies.push_back(
          std::make_unique<DeviceTiles>(std::vector<const StoredWeights*>{&shape}, false));
      bytes += copies.back()->view().tile_bytes;
    }
  }
  const WeightTiles& at(int turn) const {
    return copies[static_cast<size_t>(turn) % copies.size()]->view();
  }
};

// Of the best grid; `overlap`: launches may start before the one ahead of them ends.
double floor_us(const Rotation& weights, uint32_t* sink, bool overlap) {
  double best = 1e9;
  for (const int blocks : {132, 264, 528, 1056}) {
    best = std::min(
        best, time_us([&](int turn, cudaStream_t stream) {
          const WeightTiles& w = weights.at(turn);
          return launch_read(w.tiles, w.tile_bytes, sink, {blocks, 256, 4}, overlap, stream);
        }));
  }
  return best;
}

// Block shapes beside the chosen one.
struct Alternatives {
  std::vector<BlockShape> bits;
  std::vector<BlockShape> bytes;
};
// Other clusters than the chosen ones: of 1 to 8 blocks, 1 to 3 blocks for each multiprocessor.
std::vector<BlockShape> token_shapes(const WeightTiles& w, const BlockShape& chosen) {
  constexpr int kSharedBytes = 200 << 10;
  const int n_tiles = tiles_of(w.n, kTileRows);
  std::vector<BlockShape> shapes;
  for (const int cluster : {1, 2, 4, 8})
    for (const int blocks : {1, 2, 3}) {
      BlockShape shape = chosen;
      shape.cluster = cluster;
      shape.clusters = std::min(n_tiles, blocks * kMultiprocessors / cluster);
      const int warps = tokens_warps(w, shape);
      const int most_warps = shape.share == 4 ? kMaxTokenWarps / 2 : kMaxTokenWarps;
      if (warps > most_warps ||
          tiles_of(n_tiles, shape.clusters) * warps * kSlotBytes > kSharedBytes)
        continue;
      shapes.push_back(shape);
      const bool base5 = w.encoding == TileEncoding::kBase5;
      if (!base5 && (w.planes > 2 || shape.share != 2)) continue;
      shape.depth = 3 - shape.depth;
      if (!base5 || shape.depth == 1 || warps <= kMaxTokenWarps / 2) shapes.push_back(shape);
    }
  return shapes;
}
Alternatives alternatives(const WeightTiles& w, int m, const BlockShape& chosen) {
  if (m > 1) {
    std::vector<BlockShape> shapes;
    if (chosen.clusters > 0) shapes = token_shapes(w, chosen);
    shapes.push_back({8, 2});
    return {{}, shapes};
  }
  if (w.encoding == TileEncoding::kBase5)
    return {{{8, 1}, {6, 1}, {4, 1}, {8, 2}, {4, 2}, {2, 2}}, {{8, 1}}};
  return {{{8, 4}, {4, 4}, {2, 4}, {w.planes == 3 ? 4 : 6, 2}}, {{8, 2}, {8, 4}, {4, 2}, {2, 4}}};
}

// The chosen kernel, then other block shapes: warps x depth, or clusters x their blocks.
void print_times(const char* scheme, const Rotation& weights, int bits, int m, double floor) {
  const WeightTiles& first = weights.at(0);
  DeviceTokens tokens{HostTokens(random_tokens(bits, m, first.k, 5))};
  const TokenTiles x = tokens.view();
  auto y = required(DeviceArray<float>::create(static_cast<int64_t>(m) * first.n));
  LinearOutput output;
  output.y = y.data();
  output.stride = first.n;
  const LinearProblem problem{first.planes, first.encoding, first.group_size, bits, m,
                              first.n,      first.k};
  const LinearKernel chosen = choose_kernel(problem);
  const BlockShape shape =
      chosen == LinearKernel::kBits ? bits_shape(first) : bytes_shape(first, x);
  const double us = time_us([&](int turn, cudaStream_t stream) {
    return run_linear(chosen, weights.at(turn), x, output, stream).ok() ? cudaSuccess
                                                                        : cudaErrorUnknown;
  });
  const auto name = [](const BlockShape& of) {
    return of.clusters > 0 ? fmt::format("{}c{}d{}", of.clusters, of.cluster, of.depth)
                           : fmt::format("{}x{}", of.warps, of.depth);
  };
  std::printf("%-3s a%d M=%d %-10s %s %.2f us %.2fx |", scheme, bits, m,
              std::string(linear_kernel_name(chosen)).c_str(), name(shape).c_str(), us, us / floor);
  const auto print = [&](const char* kernel, auto launcher, const std::vector<BlockShape>& shapes) {
    if (!shapes.empty()) std::printf(" %s", kernel);
    for (const BlockShape& other : shapes)
      std::printf(" %s %.2f", name(other).c_str(), time_us([&](int turn, cudaStream_t stream) {
                    return launcher(weights.at(turn), x, output, other, stream);
                  }));
  };
  const Alternatives others = alternatives(first, m, shape);
  print("bits", launch_bits, others.bits);
  print("bytes", launch_bytes, others.bytes);
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace

TEST_CASE("times of decode linears are printed on demand") {
  const char* const wanted = std::getenv("ABQ_KERNEL_TIMES");
  if (wanted == nullptr || std::string_view(wanted) != "1") return;
  auto sink = required(DeviceArray<uint32_t>::create(1));
  struct Scheme {
    const char* name;
    quant::WeightSpec spec;
    std::vector<int> bits;
  };
  const std::vector<Scheme> schemes = {{"w2", {2, false, 0, false}, {8}},
                                       {"w4", {4, false, 0, false}, {8, 4}},
                                       {"w3", {3, false, 0, false}, {8}},
                                       {"w2b", {2, true, 0, false}, {8}}};
  struct Size {
    int64_t n;
    int64_t k;
  };
  for (const Size size : {Size{4096, 4096}, Size{11008, 4096}, Size{4096, 11008}})
    for (const Scheme& scheme : schemes) {
      const Rotation weights(scheme.spec, size.n, size.k);
      const double floor = floor_us(weights, sink.data(), true);
      std::printf("N=%ld K=%ld, %.2f MiB: floor %.2f us, %.2f plain\n", static_cast<long>(size.n),
                  static_cast<long>(size.k),
                  static_cast<double>(weights.at(0).tile_bytes) / (1 << 20), floor,
                  floor_us(weights, sink.data(), false));
      for (const int bits : scheme.bits)
        for (const int m : {1, 8})
          print_times(scheme.name, weights, bits, m, floor);
    }
}

}  // namespace abq::runtime::cuda
