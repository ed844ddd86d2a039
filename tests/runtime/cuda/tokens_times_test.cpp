// Microseconds of the token kernels in a graph, printed with ABQ_KERNEL_TIMES=1.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string_view>

#include "runtime/cuda/bench/graph_timer.h"
#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/tokens/token_launchers.h"
#include "tokens_hadamard_matrix.h"

namespace abq::runtime::cuda {

namespace {

// A graph of what `enqueue` does `count` times.
class Recorded {
 public:
  Recorded(cudaStream_t stream, int count, const std::function<void()>& enqueue) {
    cudaGraph_t graph = nullptr;
    require_ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < count; ++i)
      enqueue();
    require_ok(cudaStreamEndCapture(stream, &graph));
    require_ok(cudaGraphInstantiate(&graph_, graph, 0));
    require_ok(cudaGraphDestroy(graph));
  }
  Recorded(const Recorded&) = delete;
  Recorded& operator=(const Recorded&) = delete;
  ~Recorded() { (void)cudaGraphExecDestroy(graph_); }
  void replay(cudaStream_t stream) const { require_ok(cudaGraphLaunch(graph_, stream)); }

 private:
  cudaGraphExec_t graph_ = nullptr;
};

bool wanted() {
  const char* const times = std::getenv("ABQ_KERNEL_TIMES");
  return times != nullptr && std::string_view(times) == "1";
}

// Median microseconds of one call of `enqueue`.
double microseconds(cudaStream_t stream, int count, const std::function<void()>& enqueue) {
  const Recorded recorded(stream, count, enqueue);
  cudaEvent_t start = nullptr;
  cudaEvent_t stop = nullptr;
  require_ok(cudaEventCreate(&start));
  require_ok(cudaEventCreate(&stop));
  std::vector<float> times;
  for (int i = 0; i < 12; ++i) {
    require_ok(cudaEventRecord(start, stream));
    recorded.replay(stream);
    require_ok(cudaEventRecord(stop, stream));
    require_ok(cudaEventSynchronize(stop));
    float milliseconds = 0;
    require_ok(cudaEventElapsedTime(&milliseconds, start, stop));
    if (i >= 2) times.push_back(milliseconds);
  }
  require_ok(cudaEventDestroy(start));
  require_ok(cudaEventDestroy(stop));
  std::nth_element(times.begin(), times.begin() + 5, times.end());
  return static_cast<double>(times[5]) * 1e3 / count;
}

struct TokenMemory {
  DeviceArray<uint32_t> planes;
  DeviceArray<uint8_t> codes;
  DeviceArray<float> scales;
  DeviceArray<int32_t> zeros;
  DeviceArray<int32_t> sums;
  TokenTiles tokens;

  TokenMemory(int m, int k)
      : planes(poisoned<uint32_t>(plane_rows(m) * tiles_of(k, kTileDepth) * 64)),
        codes(poisoned<uint8_t>(int64_t{tiles_of(m, 8)} * tiles_of(k, kTileDepth) * 2048)),
        scales(poisoned<float>(m)),
        zeros(poisoned<int32_t>(m)),
        sums(poisoned<int32_t>(m)) {
    tokens.m = m;
    tokens.k = k;
    tokens.planes = planes.data();
    tokens.codes = codes.data();
    tokens.scales = scales.data();
    tokens.zeros = zeros.data();
    tokens.sums = sums.data();
  }
};

TEST_CASE("tokens: a recorded graph gives what direct launches give") {
  constexpr int kColumns = 4096;
  const Stream stream;
  DeviceRows x(random_rows(1, kColumns, kColumns, 1));
  const DeviceArray<float> weight = on_device(random_rows(1, kColumns, kColumns, 2).values);
  TokenMemory direct(1, kColumns);
  TokenMemory replayed(1, kColumns);
  const auto enqueue = [&](const TokenTiles& tokens) {
    require_ok(rms_norm_quantize(x.values(), weight.data(), 1e-6f, Rows{}, tokens, stream));
  };
  enqueue(direct.tokens);
  const Recorded recorded(stream, 3, [&] { enqueue(replayed.tokens); });
  recorded.replay(stream);
  stream.wait();
  CHECK(require_value(direct.planes.download()) == require_value(replayed.planes.download()));
  CHECK(require_value(direct.scales.download()) == require_value(replayed.scales.download()));
  CHECK(require_value(direct.sums.download()) == require_value(replayed.sums.download()));
}

void time_quantizers(int m, int k) {
  const Stream stream;
  DeviceRows x(random_rows(m, k, k, 10));
  DeviceRows up(random_rows(m, k, k, 11));
  const DeviceArray<float> weight = on_device(random_rows(1, k, k, 12).values);
  TokenMemory memory(m, k);
  const int count = m > 64 ? 20 : 200;
  const RowsIn in{x.values().data, k};
  const RowsIn other{up.values().data, k};
  for (const bool codes : {false, true}) {
    TokenTiles tokens = memory.tokens;  // one form at a time, as a consumer reads it
    if (codes) {
      tokens.planes = nullptr;
    } else {
      tokens.codes = nullptr;
    }
    for (const int blocks : {1, 2, 4, 8}) {
      if (blocks > 1 && !launches_overlap()) continue;
      for (const int held : {1, 2}) {
        const TokenPlan plan{held, blocks, divide_up(tiles_of(k, kTileDepth), blocks * held)};
        if (plan.warps > kMaxRowWarps) continue;
        const double norm = microseconds(stream, count, [&] {
          require_ok(launch_rms_norm_quantize(in, weight.data(), 1e-6f, {nullptr, 0}, tokens, true,
                                              plan, stream));
        });
        const double plain = microseconds(
            stream, count, [&] { require_ok(launch_quantize(in, tokens, true, plan, stream)); });
        const double silu = microseconds(stream, count, [&] {
          require_ok(launch_silu_mul_quantize(in, other, tokens, true, plan, stream));
        });
        const TokenPlan chosen = plan_tokens(m, k, true, launches_overlap());
        const bool is_chosen = chosen.held == held && chosen.blocks == blocks;
        std::printf(
            "m %d k %5d %s: %d block(s) of %2d warps, %d held: rms_norm_quantize %5.2f  "
            "quantize %5.2f  silu_mul_quantize %5.2f us%s\n",
            m, k, codes ? "codes " : "planes", blocks, plan.warps, held, norm, plain, silu,
            is_chosen ? "  (chosen)" : "");
      }
    }
  }
}

void time_linear(int n, int k) {
  const Stream stream;
  constexpr int kCount = 10;
  DeviceArray<uint16_t> weights = poisoned<uint16_t>(int64_t{n} * k);
  const double floor = require_value(time_read(weights.bytes(), false));
  std::printf("f16 %d x %d: read floor %.1f us\n", n, k, floor);
  DeviceArray<uint8_t> scratch = poisoned<uint8_t>(FloatLinear::workspace_bytes(16, k));
  const Workspace workspace{scratch.data(), scratch.bytes()};
  for (const bool fast : {false, true}) {
    for (const int m : {1, 2, 4, 8, 16}) {
      FloatLinear linear;
      linear.set_fast(fast);
      DeviceRows x(random_rows(m, k, k, 20));
      DeviceRows y(HostRows(m, n, n));
      const compute::FloatMatrix matrix{compute::FloatType::kF16, weights.data(), n, k};
      const auto run = [&] {
        return linear.run(x.values(), matrix, nullptr, 0, y.rows(), workspace, stream);
      };
      if (const Status status = run(); !status.ok()) {  // opens cuBLAS ahead of the recording
        std::printf("  m %d: %s\n", m, status.to_string().c_str());
        return;
      }
      stream.wait();
      const double time = microseconds(stream, kCount, [&] { require_ok(run()); });
      std::printf("  m %2d %s: %.1f us, %.2f of the floor\n", m,
                  fast ? "float16 product of cuBLAS" : "float linear", time, time / floor);
    }
  }
}

// Of the transform with the plan that is chosen, and with others for the mixing by H_m.
void time_hadamard(int m, int size) {
  const Stream stream;
  const DeviceMatrix on_gpu(size);
  const HadamardMatrix& matrix = on_gpu.matrix;
  const DeviceArray<float> x = poisoned<float>(int64_t{m} * size);
  DeviceArray<float> y = poisoned<float>(int64_t{m} * size);
  const HadamardPlan chosen = plan_hadamard(matrix, m, size, false);
  std::vector<HadamardPlan> plans = {chosen};
  if (matrix.order > 1 && matrix.length % 4 == 0) {
    plans.push_back(chosen);
    plans.back().columns = chosen.columns == 1 ? 4 : 1;
  }
  for (const int threads : {128, 256}) {
    if (threads >= chosen.threads) continue;
    plans.push_back(chosen);
    plans.back().threads = threads;
  }
  for (const HadamardPlan& plan : plans) {
    const double time = microseconds(stream, m > 64 ? 20 : 200, [&] {
      require_ok(
          launch_hadamard({x.data(), size}, matrix, {y.data(), size}, m, size, true, plan, stream));
    });
    std::printf(
        "hadamard m %4d of %5d = %3d x %5d: %3d x %2d blocks of %3d, %d columns: %7.2f us\n", m,
        size, matrix.order, matrix.length, plan.blocks, plan.slices, plan.threads, plan.columns,
        time);
  }
}

// Of the transform and the quantization behind it: two launches, and one by clusters of all sizes.
void time_hadamard_quantize(int m, int size) {
  const Stream stream;
  const DeviceMatrix on_gpu(size);
  const HadamardMatrix& matrix = on_gpu.matrix;
  DeviceRows x(random_rows(m, size, size, 40));
  DeviceRows y(HostRows(m, size, size));
  TokenMemory memory(m, size);
  if (m > 8) {  // the form that the linear behind reads
    memory.tokens.planes = nullptr;
  } else {
    memory.tokens.codes = nullptr;
  }
  const int count = m > 64 ? 20 : 200;
  const double apart = microseconds(stream, count, [&] {
    require_ok(hadamard(x.values(), matrix, y.rows(), stream));
    require_ok(quantize(y.values(), memory.tokens, stream));
  });
  std::printf("hadamard_quantize m %4d of %5d: two launches %7.2f us, one", m, size, apart);
  const HadamardRowPlan chosen = choose_hadamard_rows(matrix, m, size);
  for (const int blocks : {1, 2, 4, 8}) {
    for (const int mixed : {4, 8}) {
      const HadamardRowPlan plan = plan_hadamard_rows(matrix, m, size, blocks, mixed);
      if (plan.blocks == 0 || (m > 64 && blocks > 2) || (matrix.order == 1 && mixed > 4)) continue;
      const double time = microseconds(stream, count, [&] {
        require_ok(launch_hadamard_quantize({x.values().data, size}, matrix, {nullptr, 0},
                                            memory.tokens, true, plan, stream));
      });
      const bool is_chosen = chosen.blocks == blocks && chosen.columns == mixed;
      std::printf("  %d x %d: %.2f%s", blocks, mixed, time, is_chosen ? " (chosen)" : "");
    }
  }
  std::printf("%s\n", chosen.blocks == 0 ? "  (two are chosen)" : "");
}

TEST_CASE("tokens: times of a transform and its quantization" * doctest::skip(!wanted())) {
  for (const int size : {4096, 11008, 13824, 14336, 28672}) {
    for (const int m : {1, 8, 16, 32, 64, 512, 2048})
      time_hadamard_quantize(m, size);
  }
}

TEST_CASE("tokens: times of the kernels" * doctest::skip(!wanted())) {
  for (const int k : {4096, 11008}) {
    for (const int m : {1, 8, 32, 128, 512, 2048})
      time_quantizers(m, k);
  }
  for (const int size : {4096, 11008, 13824, 14336, 28672}) {
    for (const int m : {1, 8, 512, 2048})
      time_hadamard(m, size);
  }
  time_linear(32000, 4096);
  time_linear(4096, 4096);
  const Stream stream;
  for (const int columns : {32000, 128256}) {
    for (const int m : {1, 8}) {
      DeviceRows x(random_rows(m, columns, columns, 30));
      DeviceArray<int32_t> best = poisoned<int32_t>(m);
      std::printf("argmax of %d x %d: %.2f us\n", m, columns, microseconds(stream, 200, [&] {
                    require_ok(argmax(x.values(), best.data(), stream));
                  }));
      HostRows logits(m, columns, columns);  // of a language model's spread
      Random random(32);
      for (float& logit : logits.values)
        logit = static_cast<float>(2.5 * random.normal());
      for (int r = 0; r < m; ++r)
        logits.at(r, 77) = 16.0f;
      DeviceRows spread(logits);
      const DeviceArray<TokenDraw> draws = on_device(std::vector<TokenDraw>(
          static_cast<size_t>(m), {.uniform = 0.7, .temperature = 1.0f, .top_p = 0.95f}));
      std::printf("draw from %d x %d, top-p 0.95: %.2f us\n", m, columns,
                  microseconds(stream, 200, [&] {
                    require_ok(draw_tokens(spread.values(), draws.data(), best.data(), stream));
                  }));
    }
  }
  for (const int m : {512, 2048}) {
    constexpr int kColumns = 4096;
    DeviceRows x(random_rows(m, kColumns, kColumns, 31));
    const DeviceArray<float> weight = on_device(random_rows(1, kColumns, kColumns, 32).values);
    TokenMemory memory(m, kColumns);
    memory.tokens.planes = nullptr;
    std::printf("rms_norm_quantize of %d x %d to codes: %.2f us\n", m, kColumns,
                microseconds(stream, 20, [&] {
                  require_ok(rms_norm_quantize(x.values(), weight.data(), 1e-6f, Rows{},
                                               memory.tokens, stream));
                }));
  }
}

}  // namespace
}  // namespace abq::runtime::cuda
