// The quantizers: the one definition that passes, reference and runtimes obey
// (docs/quantization.md; ABQ-LLM, arXiv 2408.08554, and OmniQuant, arXiv 2308.13137).
//
// Everything is float32 with round half to even and division by the scale. A code q of a row or
// group stands for scale * (q - zero / zero_denominator).
//
// Binary weights (1 bit, not balanced; symmetric or not is the same quantizer) are w' = s (2q - 1)
// with s = mean|w|; in the form above that is scale = 2 s, zero = 1 over 2. They have no range to
// clip: clip ratios are ignored.
//
// All-zero rows dequantize to exactly 0, except for binary weights, which have no zero level: there
// the guarded scale gives +-kMinScale / 2.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quant/scheme.h"
#include "support/matrix_view.h"
#include "support/status.h"

namespace abq::quant {

// Smallest scale ever used: guards all-zero rows.
inline constexpr float kMinScale = 1e-8f;

// Scale and zero point of one row, group or token.
struct AffineParams {
  float scale = 1.0f;
  uint8_t zero = 0;  // over WeightSpec::zero_denominator() for weights, plain for activations
};

// Parts of the range that are kept, in (0, 1]; 1 = no clipping.
struct ClipRatio {
  float low = 1.0f;
  float high = 1.0f;
};

// Weights W[N, K] as codes, one byte each, with one scale and zero point per row and group.
struct QuantizedWeights {
  WeightSpec spec;
  int64_t n = 0;
  int64_t k = 0;
  std::vector<uint8_t> codes;  // [N, K]
  std::vector<float> scales;   // [N, G], G = spec.groups(k)
  std::vector<uint8_t> zeros;  // [N, G], over spec.zero_denominator()
};

// Activations x[M, K] as codes, one byte each whatever the width, with per-token parameters.
struct QuantizedTokens {
  int bits = 8;
  int64_t m = 0;
  int64_t k = 0;
  std::vector<uint8_t> codes;  // [M, K]
  std::vector<float> scales;   // [M]
  std::vector<uint8_t> zeros;  // [M]
};

// Range parameters of one row or group of weights (method: min/max with clipping; binary: mean
// |w|).
AffineParams weight_params(std::span<const float> values, const WeightSpec& spec,
                           ClipRatio clip = {});
// Codes of `values` under given parameters.
void quantize_values(std::span<const float> values, const WeightSpec& spec, AffineParams params,
                     std::span<uint8_t> codes);
void dequantize_values(std::span<const uint8_t> codes, const WeightSpec& spec, AffineParams params,
                       std::span<float> values);

// Quantizes W[N, K]. `clips` is empty (no clipping) or has one entry per row and group [N, G].
// InvalidArgument for a spec that does not fit K and for NaN or Inf (named by row and column).
Result<QuantizedWeights> quantize_weights(MatrixView<const float> w, const WeightSpec& spec,
                                          std::span<const ClipRatio> clips = {});
// W'[N, K] as float32.
void dequantize_weights(const QuantizedWeights& weights, MatrixView<float> w);

// Clip ratios [N, G] that minimise sum |w' - w|^2.4 per row or group over the factors
// 1, 0.975, ..., 0.35 on both ends together; the first best wins (GPTQ-style clip search).
std::vector<ClipRatio> search_clips(MatrixView<const float> w, const WeightSpec& spec);

// Dynamic per-token asymmetric quantization, always 2^bits levels, bits 1..8. The scalar reference:
// the runtimes' fast versions give the same bytes for finite tokens. NaN does not move the range
// and becomes code 0, Inf gives scale Inf: nothing is undefined, but callers check for both.
AffineParams token_params(std::span<const float> token, int bits);
void quantize_token(std::span<const float> token, int bits, AffineParams params,
                    std::span<uint8_t> codes);
QuantizedTokens quantize_tokens(MatrixView<const float> x, int bits);
// x -> scale * (q - zero) in place, per row.
void fake_quantize_tokens(MatrixView<float> x, int bits);

}  // namespace abq::quant
