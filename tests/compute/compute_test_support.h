// What the tests of compute share: the devices of every level this machine has, random data, and
// comparison against float64 with a bound in the scale of each element.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "compute/cpu/cpu_device.h"
#include "support/float16.h"
#include "support/parallel.h"
#include "support/random.h"

namespace abq::compute {

inline constexpr double kEpsilon = 0x1p-23;

struct Level {
  std::string name;
  const Kernels* kernels;
  CpuDevice device;
};

// The levels that this machine can execute (the environment variable ABQ_CPU_ISA lowers the top).
inline std::vector<Level> levels() {
  std::vector<Level> result;
  for (CpuIsa isa : {CpuIsa::kBaseline, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    const Kernels* kernels = isa <= cpu_isa() ? kernels_for(isa) : nullptr;
    if (kernels == nullptr) continue;
    result.push_back({std::string(cpu_isa_name(isa)), kernels, CpuDevice(*kernels)});
  }
  return result;
}

inline std::vector<float> random_floats(int64_t count, uint64_t seed, double scale = 1.0) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values)
    v = static_cast<float>(scale * random.normal());
  return values;
}

// A random matrix in a float type, with the float32 values that its elements stand for.
struct TypedMatrix {
  FloatType type;
  int64_t rows;
  int64_t cols;
  std::vector<float> values;
  std::vector<uint16_t> bits;

  TypedMatrix(FloatType t, int64_t r, int64_t c, uint64_t seed)
      : type(t), rows(r), cols(c), values(random_floats(r * c, seed)) {
    if (type == FloatType::kF32) return;
    bits.reserve(values.size());
    for (float& v : values) {
      const bool half = type == FloatType::kF16;
      bits.push_back(half ? float_to_f16(v) : float_to_bf16(v));
      v = half ? f16_to_float(bits.back()) : bf16_to_float(bits.back());
    }
  }
  FloatMatrix view() const {
    const void* data = values.data();
    if (type != FloatType::kF32) data = bits.data();
    return {type, data, rows, cols};
  }
};

// The largest |got - expected| / bound; a NaN counts as infinitely wrong.
class WorstError {
 public:
  void add(double got, double expected, double bound) {
    const double error = std::abs(got - expected) / bound;
    worst_ = std::isnan(error) ? INFINITY : std::fmax(worst_, error);
  }
  double value() const { return worst_; }

 private:
  double worst_ = 0.0;
};

// Restores the default number of threads however a test ends.
struct ThreadsRestored {
  ~ThreadsRestored() { set_num_threads(0); }
};

}  // namespace abq::compute
