// Weights and tokens for the tests of the warpgroup kernels: random codes, the forms of them that
// the kernels read, and what must come out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "quant/affine.h"
#include "runtime/cuda/views.h"

namespace abq::runtime::cuda::wgmma_test {

struct Case {
  int planes = 2;         // of the weights; 3 with balanced
  int bits = 8;           // of the activations
  bool balanced = false;  // 2-bit weights in base 5
  int group_size = 0;
  bool gated = false;
  int m = 65;
  int n = 40;
  int k = 384;
};
std::string name_of(const Case& c);

// Codes, scales and zero points over their whole ranges; largest codes are frequent.
quant::QuantizedWeights make_weights(const Case& c, uint64_t seed);
quant::QuantizedTokens make_tokens(const Case& c, uint64_t seed);

// WeightTiles with host memory. Gated: the first half of the weights' rows are gates.
struct HostWeights {
  WeightTiles view;
  std::vector<uint32_t> tiles;
  std::vector<float> scales;
  std::vector<int32_t> zeros;
  std::vector<int32_t> sums;
};
HostWeights pack_weights(const Case& c, const quant::QuantizedWeights& w);

// TokenTiles with host memory, padded as views.h says; what is arbitrary there is random here.
struct HostTokens {
  TokenTiles view;
  std::vector<uint32_t> planes;
  std::vector<uint8_t> codes;
  std::vector<float> scales;
  std::vector<int32_t> zeros;
  std::vector<int32_t> sums;
  std::vector<int32_t> group_sums;
};
HostTokens pack_tokens(const quant::QuantizedTokens& x);

// sum qx qw, [m][n][groups], as plain loops over codes.
std::vector<int64_t> code_products(const quant::QuantizedTokens& x,
                                   const quant::QuantizedWeights& w);

// y [m][columns] in float64 from `products`, and by how much float32 may miss it.
struct Expected {
  int columns = 0;
  std::vector<double> y;
  std::vector<double> tolerance;
};
Expected expected_output(const Case& c, const quant::QuantizedTokens& x,
                         const quant::QuantizedWeights& w, const std::vector<int64_t>& products,
                         const std::vector<float>& residual);

}  // namespace abq::runtime::cuda::wgmma_test
