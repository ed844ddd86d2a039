#include "tools/bench_cuda.h"

#include <fmt/format.h>

#include <map>
#include <memory>

#include "runtime/device_baselines.h"
#include "runtime/device_linear.h"
#include "tools/bench_cuda_checks.h"
#include "tools/console.h"

namespace abq::tools {
namespace {

struct Shape {
  int64_t n = 0;
  int64_t k = 0;
};
constexpr Shape kShapes[] = {{4096, 4096}, {11008, 4096}, {4096, 11008}};
constexpr int64_t kTokens[] = {1, 8, 2048};

// The weights of one scheme and shape, here and on the device.
struct Subject {
  std::string name;
  int activation_bits = 16;
  RandomWeights weights;
  std::unique_ptr<runtime::DeviceLinear> linear;
};

Result<Subject> make_subject(const std::string& name, const Shape& shape) {
  ABQ_ASSIGN_OR_RETURN(const quant::Scheme scheme, parse_kernel_scheme(name, shape.k));
  Subject subject{name, scheme.activation_bits, random_weights(scheme.weights, shape.n, shape.k),
                  nullptr};
  ABQ_ASSIGN_OR_RETURN(subject.linear, runtime::create_cuda_device_linear(subject.weights.stored,
                                                                          scheme.activation_bits));
  return subject;
}

// Times that rows of a table share; 0 = none.
struct Peers {
  double float16_us = 0;
  double int8_us = 0;
};

class CudaBench {
 public:
  CudaBench(std::unique_ptr<runtime::DeviceBaselines> baselines, const KernelBenchOptions& options)
      : baselines_(std::move(baselines)), options_(options) {}

  Status run_shape(const Shape& shape, const std::vector<int64_t>& tokens);

 private:
  Status run_table(const Shape& shape, int64_t m, std::vector<Subject>& subjects);
  Status run_subject(const Shape& shape, int64_t m, Subject& subject, MatrixView<const float> x,
                     const Peers& peers);
  // Measures a peer and prints its row, or why there is none (then 0).
  Result<double> run_peer(const Shape& shape, int64_t m, bool int8);
  Result<double> read_us(int64_t bytes);

  std::unique_ptr<runtime::DeviceBaselines> baselines_;
  const KernelBenchOptions& options_;
  std::map<int64_t, double> reads_;  // bytes -> us
};

std::string number(double value, int decimals) {
  return value > 0 ? fmt::format("{:.{}f}", value, decimals) : "-";
}

// Values that do not apply are 0.
struct Row {
  std::string_view name;
  double us = 0;
  double warm_us = 0;
  double read_us = 0;
  double pair_us = 0;
  std::string_view kernel;
};

void print_row(const Row& row, const Shape& shape, int64_t m, const Peers& peers) {
  const double operations =
      2.0 * static_cast<double>(m) * static_cast<double>(shape.n) * static_cast<double>(shape.k);
  print_out("{:<14} {:>9} {:>9} {:>9} {:>7} {:>9} {:>8} {:>7} {:>7}  {}\n", row.name,
            number(row.us, 2), number(row.warm_us, 2), number(row.read_us, 2),
            number(row.read_us > 0 ? row.us / row.read_us : 0, 2), number(row.pair_us, 2),
            number(operations / row.us * 1e-6, 1), number(peers.float16_us / row.us, 2),
            number(peers.int8_us / row.us, 2), row.kernel);
}

void print_header(const Shape& shape, int64_t m, std::string_view device) {
  print_out("\nM={} N={} K={}, {}, cold L2\n", m, shape.n, shape.k, device);
  print_out("{:<14} {:>9} {:>9} {:>9} {:>7} {:>9} {:>8} {:>7} {:>7}  {}\n", "scheme", "us",
            "warm us", "read us", "x read", "pair us", "TOPS", "x fp16", "x int8", "kernel");
}

Result<double> CudaBench::read_us(int64_t bytes) {
  const auto found = reads_.find(bytes);
  if (found != reads_.end()) return found->second;
  ABQ_ASSIGN_OR_RETURN(const double us, baselines_->read_us(bytes));
  reads_[bytes] = us;
  return us;
}

Result<double> CudaBench::run_peer(const Shape& shape, int64_t m, bool int8) {
  const Result<double> us =
      int8 ? baselines_->int8_us(m, shape.n, shape.k) : baselines_->float16_us(m, shape.n, shape.k);
  const std::string_view name = int8 ? "int8" : "float16";
  if (!us.ok() && us.status().code() != StatusCode::kUnsupported) return us.status();
  if (!us.ok()) {
    print_out("{:<14} {}\n", name, us.status().message());
    return 0.0;
  }
  ABQ_ASSIGN_OR_RETURN(const double read, read_us(shape.n * shape.k * (int8 ? 1 : 2)));
  print_row({.name = name, .us = *us, .read_us = read, .kernel = int8 ? "cuBLASLt" : "cuBLAS"},
            shape, m, {});
  return *us;
}

Status CudaBench::run_subject(const Shape& shape, int64_t m, Subject& subject,
                              MatrixView<const float> x, const Peers& peers) {
  runtime::DeviceLinear& linear = *subject.linear;
  ABQ_ASSIGN_OR_RETURN(const quant::QuantizedTokens tokens,
                       set_checked_input(linear, x, subject.activation_bits));
  std::vector<std::string> kernels = linear.kernels(m);
  if (!options_.every_kernel) kernels.resize(1);
  for (const std::string& kernel : kernels) {
    ABQ_RETURN_IF_ERROR(check_kernel(linear, kernel, subject.weights, x, tokens));
    ABQ_ASSIGN_OR_RETURN(const runtime::KernelTiming timing, linear.time(kernel));
    ABQ_ASSIGN_OR_RETURN(const double read, read_us(timing.weight_bytes));
    print_row({.name = subject.name,
               .us = timing.cold_us,
               .warm_us = timing.warm_us,
               .read_us = read,
               .pair_us = timing.pair_us,
               .kernel = kernel},
              shape, m, peers);
  }
  return {};
}

Status CudaBench::run_table(const Shape& shape, int64_t m, std::vector<Subject>& subjects) {
  const std::vector<float> values = random_floats(m * shape.k, 5);
  const MatrixView<const float> x(values.data(), m, shape.k);
  print_header(shape, m, baselines_->description());
  Peers peers;
  ABQ_ASSIGN_OR_RETURN(peers.float16_us, run_peer(shape, m, false));
  ABQ_ASSIGN_OR_RETURN(peers.int8_us, run_peer(shape, m, true));
  for (Subject& subject : subjects) {
    ABQ_RETURN_IF_ERROR(
        run_subject(shape, m, subject, x, peers)
            .with_context(fmt::format("{} M={} N={} K={}", subject.name, m, shape.n, shape.k)));
  }
  return {};
}

Status CudaBench::run_shape(const Shape& shape, const std::vector<int64_t>& tokens) {
  std::vector<Subject> subjects;
  for (const std::string& scheme : options_.schemes) {
    ABQ_ASSIGN_OR_RETURN(Subject subject, make_subject(scheme, shape));
    subjects.push_back(std::move(subject));
  }
  for (const int64_t m : tokens)
    ABQ_RETURN_IF_ERROR(run_table(shape, m, subjects));
  return {};
}

}  // namespace

Status bench_kernels_on_cuda(const KernelBenchOptions& options) {
  ABQ_ASSIGN_OR_RETURN(std::unique_ptr<runtime::DeviceBaselines> baselines,
                       runtime::create_cuda_device_baselines());
  std::vector<Shape> shapes(std::begin(kShapes), std::end(kShapes));
  if (options.n || options.k) shapes = {{options.n.value_or(4096), options.k.value_or(4096)}};
  std::vector<int64_t> tokens = options.tokens;
  if (tokens.empty()) tokens.assign(std::begin(kTokens), std::end(kTokens));
  CudaBench bench(std::move(baselines), options);
  for (const Shape& shape : shapes)
    ABQ_RETURN_IF_ERROR(bench.run_shape(shape, tokens));
  return {};
}

}  // namespace abq::tools
