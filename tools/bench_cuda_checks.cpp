#include "tools/bench_cuda_checks.h"

#include <cmath>

namespace abq::tools {
namespace {

constexpr int64_t kRowStep = 61;                 // rows that are checked, and the last one
constexpr int64_t kMostSums = int64_t{1} << 25;  // 256 MiB of them
constexpr double kTolerance = 0x1p-20;

bool checked(int64_t row, int64_t rows) {
  return row % kRowStep == 0 || row + 1 == rows;
}

int64_t code_product(const quant::QuantizedWeights& w, const quant::QuantizedTokens& tokens,
                     int64_t token, int64_t row, int64_t group) {
  const int64_t length = w.k / w.spec.groups(w.k);
  const uint8_t* const a = w.codes.data() + row * w.k + group * length;
  const uint8_t* const b = tokens.codes.data() + token * w.k + group * length;
  int64_t sum = 0;
  for (int64_t k = 0; k < length; ++k)
    sum += int64_t{a[k]} * b[k];
  return sum;
}

struct Expected {
  double value = 0;
  double bound = 0;
};

// From the values that codes stand for; the bound from the norms of a float32 sum's operands.
Expected expected_output(const quant::QuantizedWeights& w, const quant::QuantizedTokens& tokens,
                         MatrixView<const float> x, int64_t token, int64_t row) {
  const int64_t length = w.k / w.spec.groups(w.k);
  double sum = 0, x_norm = 0, w_norm = 0;
  for (int64_t k = 0; k < w.k; ++k) {
    const size_t entry = static_cast<size_t>((row * w.k + k) / length);
    const double zero = static_cast<double>(w.zeros[entry]) / w.spec.zero_denominator();
    const double weight =
        static_cast<double>(w.scales[entry]) * (w.codes[static_cast<size_t>(row * w.k + k)] - zero);
    double value = static_cast<double>(x.row(token)[k]);
    if (!tokens.codes.empty()) {
      const size_t at = static_cast<size_t>(token);
      value = static_cast<double>(tokens.scales[at]) *
              (static_cast<double>(tokens.codes[static_cast<size_t>(token * w.k + k)]) -
               static_cast<double>(tokens.zeros[at]));
    }
    sum += weight * value;
    x_norm += value * value;
    w_norm += weight * weight;
  }
  return {sum, kTolerance * std::sqrt(x_norm * w_norm)};
}

Status check_sums(runtime::DeviceLinear& linear, const std::string& kernel,
                  const quant::QuantizedWeights& w, const quant::QuantizedTokens& tokens) {
  const int64_t groups = w.spec.groups(w.k);
  const int64_t count = tokens.m * w.n * groups;
  if (count > kMostSums) return {};
  std::vector<int64_t> sums(static_cast<size_t>(count));
  ABQ_RETURN_IF_ERROR(linear.accumulate(kernel, sums));
  for (const int64_t token : {int64_t{0}, tokens.m - 1}) {
    for (int64_t row = 0; row < w.n; ++row) {
      for (int64_t group = 0; checked(row, w.n) && group < groups; ++group) {
        const int64_t got = sums[static_cast<size_t>((token * w.n + row) * groups + group)];
        const int64_t expected = code_product(w, tokens, token, row, group);
        if (got != expected) {
          return internal_error("{}: sum of codes [{}, {}, {}] is {}, the reference {}", kernel,
                                token, row, group, got, expected);
        }
      }
    }
  }
  return {};
}

}  // namespace

Result<quant::QuantizedTokens> set_checked_input(runtime::DeviceLinear& linear,
                                                 MatrixView<const float> x, int activation_bits) {
  ABQ_RETURN_IF_ERROR(linear.set_input(x));
  if (activation_bits >= 16) return quant::QuantizedTokens{};
  ABQ_ASSIGN_OR_RETURN(quant::QuantizedTokens tokens, linear.input_codes());
  const quant::QuantizedTokens expected = quant::quantize_tokens(x, activation_bits);
  if (tokens.codes != expected.codes || tokens.scales != expected.scales ||
      tokens.zeros != expected.zeros) {
    return internal_error("cuda: tokens of {} bits differ from the reference", activation_bits);
  }
  return tokens;
}

Status check_kernel(runtime::DeviceLinear& linear, const std::string& kernel,
                    const RandomWeights& weights, MatrixView<const float> x,
                    const quant::QuantizedTokens& tokens) {
  const quant::QuantizedWeights& w = weights.codes;
  if (!tokens.codes.empty()) ABQ_RETURN_IF_ERROR(check_sums(linear, kernel, w, tokens));
  std::vector<float> values(static_cast<size_t>(x.rows * w.n));
  const MatrixView<float> y(values.data(), x.rows, w.n);
  ABQ_RETURN_IF_ERROR(linear.run(kernel, y));
  for (const int64_t token : {int64_t{0}, x.rows - 1}) {
    for (int64_t row = 0; row < w.n; ++row) {
      if (!checked(row, w.n)) continue;
      const Expected expected = expected_output(w, tokens, x, token, row);
      const double got = static_cast<double>(y.row(token)[row]);
      if (!(std::abs(got - expected.value) <= expected.bound)) {
        return internal_error("{}: y[{}, {}] is {}, the reference {} (tolerance {})", kernel, token,
                              row, got, expected.value, expected.bound);
      }
    }
  }
  return {};
}

}  // namespace abq::tools
