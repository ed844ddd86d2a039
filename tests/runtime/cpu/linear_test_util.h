// What the tests of the quantized kernels share: stored weights of every kind and the ISA levels
// that this machine can run.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "quant/affine.h"
#include "quant/packed_layout.h"
#include "runtime/cpu/quantized_linear.h"
#include "support/random.h"

namespace abq::runtime {

inline std::vector<CpuIsa> levels_here() {
  std::vector<CpuIsa> levels;
  for (int i = 0; i <= static_cast<int>(cpu_isa()); ++i)
    levels.push_back(static_cast<CpuIsa>(i));
  return levels;
}

inline std::vector<float> random_values(uint64_t seed, int64_t count) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values)
    v = static_cast<float>(random.normal() + 0.25);
  return values;
}

// Quantized weights with their stored form.
struct TestWeights {
  quant::QuantizedWeights weights;
  std::vector<std::byte> packed;

  StoredWeights stored() const {
    return {.spec = weights.spec,
            .layout = quant::PackedLayout::for_weights(weights.spec, weights.n, weights.k),
            .packed = packed,
            .scales = weights.scales,
            .zeros = weights.zeros};
  }
};

// Codes, scales and zero points drawn over their whole ranges; the extremes come often.
inline TestWeights random_weights(uint64_t seed, const quant::WeightSpec& spec, int64_t n,
                                  int64_t k) {
  Random random(seed);
  TestWeights t;
  t.weights.spec = spec;
  t.weights.n = n;
  t.weights.k = k;
  const uint64_t levels = static_cast<uint64_t>(spec.levels());
  for (int64_t i = 0; i < n * k; ++i) {
    const bool top = random.below(4) == 0;
    t.weights.codes.push_back(static_cast<uint8_t>(top ? levels - 1 : random.below(levels)));
  }
  for (int64_t i = 0; i < n * spec.groups(k); ++i) {
    t.weights.scales.push_back(static_cast<float>(0.01 + random.uniform()));
    uint8_t zero = static_cast<uint8_t>(random.below(levels));
    if (spec.symmetric) zero = static_cast<uint8_t>(1 << (spec.bits - 1));
    if (spec.binary()) zero = 1;
    t.weights.zeros.push_back(zero);
  }
  const quant::PackedLayout layout = quant::PackedLayout::for_weights(spec, n, k);
  t.packed.resize(static_cast<size_t>(layout.total_bytes()));
  for (int64_t row = 0; row < n; ++row) {
    quant::pack_row(
        layout,
        std::span(t.weights.codes).subspan(static_cast<size_t>(row * k), static_cast<size_t>(k)),
        std::span(t.packed).subspan(static_cast<size_t>(row * layout.row_bytes()),
                                    static_cast<size_t>(layout.row_bytes())));
  }
  return t;
}

// Per output: what every addend of the float epilogue sums to in size, the base of a tolerance.
//   sum_g s_g (sum qw |x| + zero sum |x|), with x in units of its own scale or as floats.
inline double output_size(const quant::QuantizedWeights& w, int64_t row,
                          const std::vector<double>& x_size) {
  const int64_t groups = w.spec.groups(w.k);
  const int64_t length = w.k / groups;
  double size = 0;
  for (int64_t g = 0; g < groups; ++g) {
    const size_t at = static_cast<size_t>(row * groups + g);
    double sum = 0;
    for (int64_t j = g * length; j < (g + 1) * length; ++j) {
      sum += (w.codes[static_cast<size_t>(row * w.k + j)] + w.zeros[at]) *
             x_size[static_cast<size_t>(j)];
    }
    size += static_cast<double>(w.scales[at]) * sum;
  }
  return size;
}

inline std::string describe(const quant::WeightSpec& spec, int activation_bits, int64_t m,
                            int64_t n, int64_t k, CpuIsa isa) {
  return fmt::format("{} M={} N={} K={} {}",
                     quant::to_string({.weights = spec, .activation_bits = activation_bits}), m, n,
                     k, cpu_isa_name(isa));
}

}  // namespace abq::runtime
