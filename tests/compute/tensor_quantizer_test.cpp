// The quantizers of the CPU's tensor device are those of quant/affine.h, bit for bit.
#include <algorithm>
#include <bit>

#include "compute/cpu/cpu_tensor_device.h"
#include "compute_test_support.h"
#include "quant/affine.h"

namespace abq::compute {
namespace {

using Kind = WeightQuantizer::Kind;

int64_t different_bits(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  int64_t count = 0;
  for (size_t i = 0; i < a.size(); ++i)
    count += std::bit_cast<uint32_t>(a[i]) == std::bit_cast<uint32_t>(b[i]) ? 0 : 1;
  return count;
}

// Normal rows, and some whose range ends at zero, is far from it, or is zero.
std::vector<float> test_values(int64_t rows, int64_t cols, uint64_t seed) {
  std::vector<float> x = random_floats(rows * cols, seed);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      float& v = x[static_cast<size_t>(r * cols + c)];
      if (r % 8 == 1) v = std::abs(v);
      if (r % 8 == 2) v = -std::abs(v);
      if (r % 8 == 3) v = 0.0f;
      if (r % 8 == 4) v *= 1e-9f;
      if (r % 8 == 5) v = 1.0f + 0.01f * v;
      if (r % 8 == 6) v = std::round(4.0f * v) / 8.0f;  // many halves
    }
  }
  return x;
}

std::vector<CpuIsa> isas() {
  std::vector<CpuIsa> result;
  for (CpuIsa isa : {CpuIsa::kBaseline, CpuIsa::kAvx2, CpuIsa::kAvx512})
    if (isa <= cpu_isa() && kernels_for(isa) != nullptr) result.push_back(isa);
  return result;
}

TEST_CASE("fake_quantize_tokens is quant's in every bit") {
  const int64_t rows = 64;
  for (const CpuIsa isa : isas()) {
    CpuTensorDevice device(isa);
    for (int bits = 1; bits <= 8; ++bits) {
      for (const int64_t segment : {1, 7, 64, 517}) {
        const int64_t cols = segment < 100 ? 3 * segment : segment;
        const std::vector<float> x = test_values(rows, cols, static_cast<uint64_t>(bits));
        std::vector<float> expected = x, got(x.size());
        quant::fake_quantize_tokens({expected.data(), rows * cols / segment, segment}, bits);
        device.download(device.fake_quantize_tokens(device.upload(x, rows, cols), bits, segment),
                        got);
        CAPTURE(bits);
        CAPTURE(segment);
        CHECK(different_bits(got, expected) == 0);
      }
    }
  }
}

WeightQuantizer translated(const quant::WeightSpec& spec) {
  WeightQuantizer quantizer;
  quantizer.kind = spec.symmetric ? Kind::kSymmetric : Kind::kAsymmetric;
  if (spec.binary()) quantizer.kind = Kind::kBinary;
  quantizer.levels = spec.levels();
  quantizer.steps = (1 << spec.bits) - (spec.balanced ? 0 : 1);
  quantizer.zero = 1 << (spec.bits - 1);
  quantizer.group_size = spec.group_size;
  return quantizer;
}

std::vector<quant::WeightSpec> specs() {
  std::vector<quant::WeightSpec> all;
  for (int bits = 1; bits <= 8; ++bits) {
    for (const bool balanced : {false, true}) {
      if (balanced && bits > 2) continue;
      for (const int group : {0, 64}) {
        for (const bool symmetric : {false, true})
          all.push_back({bits, balanced, group, symmetric});
      }
    }
  }
  return all;
}

TEST_CASE("fake_quantize_weight is quantizing and dequantizing by quant in every bit") {
  const int64_t rows = 40, cols = 192;
  const std::vector<float> w = test_values(rows, cols, 9);
  for (const CpuIsa isa : isas()) {
    CpuTensorDevice device(isa);
    for (const quant::WeightSpec& spec : specs()) {
      for (const bool clipped : {false, true}) {
        const int64_t groups = spec.groups(cols);
        std::vector<quant::ClipRatio> clips;
        std::vector<float> low, high;
        Random random(3);
        for (int64_t i = 0; clipped && i < rows * groups; ++i) {
          low.push_back(static_cast<float>(0.3 + 0.7 * random.uniform()));
          high.push_back(static_cast<float>(0.3 + 0.7 * random.uniform()));
          clips.push_back({low.back(), high.back()});
        }
        const auto quantized = quant::quantize_weights({w.data(), rows, cols}, spec, clips);
        REQUIRE(quantized.ok());
        std::vector<float> expected(w.size()), got(w.size());
        quant::dequantize_weights(*quantized, {expected.data(), rows, cols});
        const Tensor clip_low = clipped ? device.upload(low, rows, groups) : Tensor();
        const Tensor clip_high = clipped ? device.upload(high, rows, groups) : Tensor();
        device.download(device.fake_quantize_weight(device.upload(w, rows, cols), clip_low,
                                                    clip_high, translated(spec)),
                        got);
        CAPTURE(quant::to_string({.weights = spec}));
        CAPTURE(clipped);
        if (!spec.binary()) {
          CHECK(different_bits(got, expected) == 0);
          continue;
        }
        // The mean of K magnitudes, summed in float32.
        WorstError error;
        for (size_t i = 0; i < got.size(); ++i)
          error.add(got[i], expected[i],
                    static_cast<double>(cols) / 2 * kEpsilon *
                        std::abs(static_cast<double>(expected[i])));
        CHECK(error.value() <= 1.0);
      }
    }
  }
}

TEST_CASE("rounded_weight of codes on their grid is dequantizing by quant in every bit") {
  const int64_t rows = 40, cols = 192;
  const std::vector<float> w = test_values(rows, cols, 9);
  for (const CpuIsa isa : isas()) {
    CpuTensorDevice device(isa);
    for (const quant::WeightSpec& spec : specs()) {
      if (spec.binary()) continue;  // its scale of codes is twice that of signs
      const auto quantized = quant::quantize_weights({w.data(), rows, cols}, spec);
      REQUIRE(quantized.ok());
      const int64_t groups = spec.groups(cols);
      const std::vector<float> zeros(quantized->zeros.begin(), quantized->zeros.end());
      std::vector<float> offsets, expected(w.size()), got(w.size());
      for (size_t i = 0; i < w.size(); ++i) {
        const size_t group = i / static_cast<size_t>(cols / groups);
        offsets.push_back(static_cast<float>(quantized->codes[i]) - zeros[group]);
      }
      quant::dequantize_weights(*quantized, {expected.data(), rows, cols});
      device.download(device.rounded_weight(device.upload(offsets, rows, cols),
                                            device.upload(quantized->scales, rows, groups),
                                            device.upload(zeros, rows, groups), translated(spec)),
                      got);
      CAPTURE(quant::to_string({.weights = spec}));
      CHECK(different_bits(got, expected) == 0);
    }
  }
}

}  // namespace
}  // namespace abq::compute
