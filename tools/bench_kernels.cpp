#include "tools/bench_kernels.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>

#include "compute/cpu/kernels.h"
#include "compute/device.h"
#include "quant/reference_gemm.h"
#include "runtime/cpu/quantized_linear.h"
#include "runtime/cuda_library.h"
#include "runtime/engine.h"
#include "support/parallel.h"
#include "support/random.h"
#include "tools/bench_cuda.h"
#include "tools/console.h"

namespace abq::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRepeats = 7;

// The options with what was left open.
struct CpuBench {
  std::vector<std::string> schemes;
  std::vector<int64_t> tokens;
  int64_t n = 0;
  int64_t k = 0;
  int64_t rotate_mib = 0;
};

// Median seconds of one call; call i gets i, so that it can rotate over copies.
double time_median(int calls_per_sample, const std::function<void(int64_t)>& call) {
  std::vector<double> samples;
  int64_t index = 0;
  for (int sample = 0; sample < kRepeats + 1; ++sample) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < calls_per_sample; ++i)
      call(index++);
    samples.push_back(std::chrono::duration<double>(Clock::now() - start).count() /
                      calls_per_sample);
  }
  samples.erase(samples.begin());  // the first one warms threads and pages up
  std::sort(samples.begin(), samples.end());
  return samples[samples.size() / 2];
}

// Calls per sample so that a sample lasts at least some 50 ms.
int calls_for(double seconds) {
  return std::clamp(static_cast<int>(0.05 / seconds), 1, 200);
}

double time_call(const std::function<void(int64_t)>& call) {
  call(0);
  const Clock::time_point start = Clock::now();
  call(1);
  return time_median(calls_for(std::chrono::duration<double>(Clock::now() - start).count()), call);
}

int64_t copies_for(const CpuBench& options, int64_t bytes) {
  return std::max<int64_t>((options.rotate_mib * (int64_t{1} << 20) + bytes - 1) / bytes, 1);
}

// Reads a buffer once on all threads, the way that no kernel can beat.
double read_seconds(const std::vector<float>& values) {
  constexpr int64_t kBlock = 1 << 18;
  const int64_t count = static_cast<int64_t>(values.size());
  const int64_t blocks = (count + kBlock - 1) / kBlock;
  std::vector<float> sums(static_cast<size_t>(blocks));
  const compute::Kernels& kernels = *compute::kernels_for(cpu_isa());
  const auto read = [&](int64_t) {
    parallel_for(blocks, [&](int64_t b) {
      const int64_t begin = b * kBlock;
      sums[static_cast<size_t>(b)] =
          kernels.sum(values.data() + begin, std::min(kBlock, count - begin));
    });
  };
  return time_median(1, read);
}

// Tokens whose results are checked: enough for the GEMM where it is what will be timed.
MatrixView<const float> checked_tokens(MatrixView<const float> x) {
  constexpr int64_t kTokens = 24;
  return {x.data, std::min(x.rows, kTokens), x.cols};
}

// The integers of the kernel against the reference, on the first and the last token.
Status check_integers(const runtime::QuantizedLinear& linear, const RandomWeights& weights,
                      MatrixView<const float> x, int bits, bool planes) {
  runtime::PackedTokens packed;
  runtime::pack_tokens(x, bits, packed, cpu_isa(), planes);
  const size_t row_sums = weights.codes.scales.size();
  std::vector<int64_t> sums(static_cast<size_t>(x.rows) * row_sums);
  linear.accumulate(packed, sums);
  for (const int64_t token : {int64_t{0}, x.rows - 1}) {
    const MatrixView<const float> row(x.row(token), 1, x.cols);
    const std::vector<int64_t> expected =
        quant::reference_code_products(quant::quantize_tokens(row, bits), weights.codes);
    const auto got = sums.begin() + token * static_cast<int64_t>(row_sums);
    if (!std::equal(expected.begin(), expected.end(), got)) {
      return internal_error("{}: integer sums differ from the reference",
                            linear.kernel_name(x.rows));
    }
  }
  return {};
}

// The same for float activations, in float64 on the first outputs; the tolerance follows from the
// norms of a float32 sum's operands.
Status check_floats(const runtime::QuantizedLinear& linear, const RandomWeights& weights,
                    MatrixView<const float> x) {
  constexpr int64_t kOutputs = 8;
  constexpr double kTolerance = 0x1p-20;
  std::vector<float> values(static_cast<size_t>(x.rows * linear.n()));
  const MatrixView<float> y(values.data(), x.rows, linear.n());
  linear.run_float(x, y);
  const quant::QuantizedWeights& codes = weights.codes;
  const int64_t group = codes.k / codes.spec.groups(codes.k);
  for (const int64_t token : {int64_t{0}, x.rows - 1}) {
    for (int64_t n = 0; n < std::min(kOutputs, linear.n()); ++n) {
      double sum = 0, x_norm = 0, w_norm = 0;
      for (int64_t k = 0; k < codes.k; ++k) {
        const size_t entry = static_cast<size_t>((n * codes.k + k) / group);
        const double zero = static_cast<double>(codes.zeros[entry]) / codes.spec.zero_denominator();
        const double w = static_cast<double>(codes.scales[entry]) *
                         (codes.codes[static_cast<size_t>(n * codes.k + k)] - zero);
        sum += w * x.row(token)[k];
        w_norm += w * w;
        x_norm += static_cast<double>(x.row(token)[k]) * x.row(token)[k];
      }
      const double bound = kTolerance * std::sqrt(x_norm * w_norm);
      if (!(std::abs(y.row(token)[n] - sum) <= bound)) {
        return internal_error("{}: y[{}, {}] is {}, the reference {} (tolerance {})",
                              linear.kernel_name(x.rows), token, n, y.row(token)[n], sum, bound);
      }
    }
  }
  return {};
}

void print_header(int64_t m, const CpuBench& options) {
  print_out("\nM={} N={} K={}, {} threads, median of {}\n", m, options.n, options.k, num_threads(),
            kRepeats);
  print_out("{:<14} {:>10} {:>9} {:>9} {:>9} {:>10}  {}\n", "scheme", "us", "GB/s", "GFLOPS",
            "x float32", "pack x us", "kernel");
}

void print_row(std::string_view name, double seconds, int64_t bytes, int64_t m,
               const CpuBench& options, double float_seconds, double pack_seconds,
               std::string_view kernel) {
  const double flops = 2.0 * static_cast<double>(m * options.n) * static_cast<double>(options.k);
  print_out("{:<14} {:>10.1f} {:>9.2f} {:>9.1f} {:>9.2f} {:>10.1f}  {}\n", name, seconds * 1e6,
            static_cast<double>(bytes) / seconds * 1e-9, flops / seconds * 1e-9,
            float_seconds / seconds, pack_seconds * 1e6, kernel);
}

double bench_float(int64_t m, const std::vector<float>& weights, MatrixView<const float> x,
                   MatrixView<float> y, const CpuBench& options) {
  const int64_t copy = options.n * options.k;
  const int64_t copies = static_cast<int64_t>(weights.size()) / copy;
  return time_call([&](int64_t i) {
    const compute::FloatMatrix w{compute::FloatType::kF32,
                                 weights.data() + (m == 1 ? i % copies : 0) * copy, options.n,
                                 options.k};
    compute::cpu_device().linear(x, w, y);
  });
}

Status bench_scheme(const std::string& text, int64_t m, MatrixView<const float> x,
                    MatrixView<float> y, double float_seconds, const CpuBench& options) {
  ABQ_ASSIGN_OR_RETURN(const quant::Scheme scheme, parse_kernel_scheme(text, options.k));
  const RandomWeights weights = random_weights(scheme.weights, options.n, options.k);
  std::vector<std::unique_ptr<runtime::QuantizedLinear>> copies;
  int64_t wanted = 1;
  do {
    ABQ_ASSIGN_OR_RETURN(std::unique_ptr<runtime::QuantizedLinear> linear,
                         runtime::QuantizedLinear::prepare(weights.stored, scheme.activation_bits));
    if (m == 1) wanted = copies_for(options, linear->resident_bytes());
    copies.push_back(std::move(linear));
  } while (static_cast<int64_t>(copies.size()) < wanted);

  const auto copy = [&](int64_t i) -> const runtime::QuantizedLinear& {
    return *copies[static_cast<size_t>(i) % copies.size()];
  };
  double seconds = 0;
  double pack_seconds = 0;
  if (scheme.activation_bits >= 16) {
    ABQ_RETURN_IF_ERROR(check_floats(*copies[0], weights, checked_tokens(x)));
    seconds = time_call([&](int64_t i) { copy(i).run_float(x, y); });
  } else {
    const int bits = scheme.activation_bits;
    ABQ_ASSIGN_OR_RETURN(const quant::GemmFamily family,
                         quant::select_gemm({scheme.weights, bits, options.n, options.k}));
    const bool planes = family == quant::GemmFamily::kBits;
    ABQ_RETURN_IF_ERROR(check_integers(*copies[0], weights, checked_tokens(x), bits, planes));
    runtime::PackedTokens tokens;
    pack_seconds =
        time_call([&](int64_t) { runtime::pack_tokens(x, bits, tokens, cpu_isa(), planes); });
    seconds = time_call([&](int64_t i) { copy(i).run(tokens, y); });
  }
  print_row(text, seconds, copies[0]->resident_bytes(), m, options, float_seconds, pack_seconds,
            copies[0]->kernel_name(m));
  return {};
}

Status bench_on_cpu(const CpuBench& options) {
  const int64_t copy_bytes = options.n * options.k * static_cast<int64_t>(sizeof(float));
  const std::vector<float> floats(
      static_cast<size_t>(copies_for(options, copy_bytes) * options.n * options.k), 0.5f);
  const double read = read_seconds(floats);
  const double read_rate = static_cast<double>(floats.size() * sizeof(float)) / read;
  print_out("read floor: {:.2f} GB/s ({} threads reading {})\n", read_rate * 1e-9, num_threads(),
            human_bytes(static_cast<int64_t>(floats.size() * sizeof(float))));
  for (const int64_t m : options.tokens) {
    const std::vector<float> x_values = random_floats(m * options.k, 5);
    std::vector<float> y_values(static_cast<size_t>(m * options.n));
    const MatrixView<const float> x(x_values.data(), m, options.k);
    const MatrixView<float> y(y_values.data(), m, options.n);
    print_header(m, options);
    const double float_seconds = bench_float(m, floats, x, y, options);
    print_row("float32", float_seconds, copy_bytes, m, options, float_seconds, 0, "cpu.float");
    if (m == 1) {
      print_out("               float32 runs at {:.0f} % of the read floor\n",
                100.0 * static_cast<double>(copy_bytes) / float_seconds / read_rate);
    }
    for (const std::string& scheme : options.schemes) {
      ABQ_RETURN_IF_ERROR(bench_scheme(scheme, m, x, y, float_seconds, options));
    }
  }
  return {};
}

// Keeps every product of two sizes inside int64.
Status check_sizes(const KernelBenchOptions& options) {
  constexpr int64_t kMax = int64_t{1} << 24;
  const auto check = [kMax](const char* name, int64_t value) -> Status {
    if (value >= 1 && value <= kMax) return {};
    return invalid_argument("bench --kernels: {}={}; expected 1 to {}", name, value, kMax);
  };
  ABQ_RETURN_IF_ERROR(check("N", options.n.value_or(1)));
  ABQ_RETURN_IF_ERROR(check("K", options.k.value_or(1)));
  ABQ_RETURN_IF_ERROR(check("rotate MiB", options.rotate_mib));
  for (const int64_t m : options.tokens)
    ABQ_RETURN_IF_ERROR(check("M", m));
  return {};
}

}  // namespace

std::vector<float> random_floats(int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values)
    value = static_cast<float>(random.uniform() * 2 - 1);
  return values;
}

RandomWeights random_weights(const quant::WeightSpec& spec, int64_t n, int64_t k) {
  RandomWeights weights;
  weights.codes = {.spec = spec, .n = n, .k = k, .codes = {}, .scales = {}, .zeros = {}};
  Random random(3);
  weights.codes.codes.resize(static_cast<size_t>(n * k));
  for (uint8_t& code : weights.codes.codes) {
    code = static_cast<uint8_t>(random.below(static_cast<uint64_t>(spec.levels())));
  }
  const size_t groups = static_cast<size_t>(n * spec.groups(k));
  weights.codes.scales.assign(groups, 0.01f);
  weights.codes.zeros.assign(groups, static_cast<uint8_t>(spec.binary() ? 1 : spec.levels() / 2));
  weights.stored.spec = spec;
  weights.stored.layout = quant::PackedLayout::for_weights(spec, n, k);
  weights.packed.resize(static_cast<size_t>(weights.stored.layout.total_bytes()));
  const int64_t row_bytes = weights.stored.layout.row_bytes();
  parallel_for(n, [&](int64_t row) {
    quant::pack_row(weights.stored.layout,
                    {weights.codes.codes.data() + row * k, static_cast<size_t>(k)},
                    {weights.packed.data() + row * row_bytes, static_cast<size_t>(row_bytes)});
  });
  weights.stored.packed = weights.packed;
  weights.stored.scales = weights.codes.scales;
  weights.stored.zeros = weights.codes.zeros;
  return weights;
}

Result<quant::Scheme> parse_kernel_scheme(const std::string& text, int64_t k) {
  ABQ_ASSIGN_OR_RETURN(const quant::Scheme scheme, quant::parse_scheme(text));
  if (!scheme.weights.quantized()) {
    return invalid_argument("{}: bench --kernels measures quantized weights; use w1..w8", text);
  }
  ABQ_RETURN_IF_ERROR(quant::check_weight_spec(scheme.weights, k).with_context(text));
  return scheme;
}

Status bench_kernels(const KernelBenchOptions& options) {
  ABQ_RETURN_IF_ERROR(check_sizes(options));
  ABQ_ASSIGN_OR_RETURN(runtime::DeviceKind device, runtime::parse_device_kind(options.device));
  if (device == runtime::DeviceKind::kAuto) {
    device = runtime::describe_cuda_devices().ok() ? runtime::DeviceKind::kCuda
                                                   : runtime::DeviceKind::kCpu;
  }
  if (device == runtime::DeviceKind::kCuda) return bench_kernels_on_cuda(options);
  CpuBench bench{options.schemes, options.tokens, options.n.value_or(4096),
                 options.k.value_or(14336), options.rotate_mib};
  if (bench.tokens.empty()) bench.tokens = {1, 512};
  return bench_on_cpu(bench);
}

}  // namespace abq::tools
