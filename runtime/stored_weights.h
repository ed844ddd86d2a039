// Quantized weights as an artifact stores them: what every device prepares its own layout from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/packed_layout.h"
#include "quant/scheme.h"

namespace abq::runtime {

struct StoredWeights {
  quant::WeightSpec spec;
  quant::PackedLayout layout;         // PackedLayout::for_weights(spec, n, k)
  std::span<const std::byte> packed;  // layout.total_bytes()
  std::span<const float> scales;      // [N, G], finite and > 0
  std::span<const uint8_t> zeros;     // [N, G], over spec.zero_denominator(), < levels
};

}  // namespace abq::runtime
