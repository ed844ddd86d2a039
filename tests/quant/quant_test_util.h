// What the tests of quant share: random matrices and the list of every weight quantizer.
#pragma once

#include <cstdint>
#include <vector>

#include "quant/scheme.h"
#include "support/matrix_view.h"
#include "support/random.h"

namespace abq::quant {

inline std::vector<float> normal_values(uint64_t seed, int64_t count, double deviation = 1.0) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values)
    v = static_cast<float>(deviation * random.normal());
  return values;
}

inline std::vector<uint8_t> random_codes(uint64_t seed, int64_t count, int levels) {
  Random random(seed);
  std::vector<uint8_t> codes(static_cast<size_t>(count));
  for (uint8_t& code : codes)
    code = static_cast<uint8_t>(random.below(static_cast<uint64_t>(levels)));
  return codes;
}

inline MatrixView<const float> view(const std::vector<float>& values, int64_t rows) {
  return {values.data(), rows, static_cast<int64_t>(values.size()) / rows};
}

inline MatrixView<float> view(std::vector<float>& values, int64_t rows) {
  return {values.data(), rows, static_cast<int64_t>(values.size()) / rows};
}

// Widths 1..8, balanced where that exists, symmetric and not, for each of `group_sizes`.
inline std::vector<WeightSpec> every_weight_spec(const std::vector<int>& group_sizes) {
  std::vector<WeightSpec> specs;
  for (int bits = 1; bits <= 8; ++bits) {
    for (const bool balanced : {false, true}) {
      if (balanced && bits > 2) continue;
      for (const bool symmetric : {false, true})
        for (const int group_size : group_sizes)
          specs.push_back({bits, balanced, group_size, symmetric});
    }
  }
  return specs;
}

inline std::string describe(const WeightSpec& spec) {
  return to_string(Scheme{spec, 8, 16, 16});
}

}  // namespace abq::quant
