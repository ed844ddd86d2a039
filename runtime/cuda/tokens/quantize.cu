// Quantization of tokens: codes, planes and sums of float rows, and pairs of halves.
#include "runtime/cuda/tokens/row_sinks.cuh"
#include "runtime/cuda/tokens/row_sources.cuh"
#include "runtime/cuda/tokens/token_launchers.h"

namespace abq::runtime::cuda {
namespace {

QuantizeSink quantize_sink(const TokenTiles& tokens) {
  return {tokens, {nullptr, 0}, static_cast<float>((1 << tokens.bits) - 1)};
}

}  // namespace

cudaError_t launch_quantize(RowsIn x, const TokenTiles& tokens, bool vector, const TokenPlan& plan,
                            cudaStream_t stream) {
  return launch_rows(PlainSource{x.data, x.stride}, quantize_sink(tokens), tokens.m, tokens.k,
                     vector, plan, stream);
}

cudaError_t launch_silu_mul_quantize(RowsIn gate, RowsIn up, const TokenTiles& tokens, bool vector,
                                     const TokenPlan& plan, cudaStream_t stream) {
  return launch_rows(SiluSource{{gate.data, gate.stride}, {up.data, up.stride}},
                     quantize_sink(tokens), tokens.m, tokens.k, vector, plan, stream);
}

cudaError_t launch_split_halves(RowsIn x, const HalfTokens& tokens, bool vector,
                                const TokenPlan& plan, cudaStream_t stream) {
  return launch_rows(PlainSource{x.data, x.stride}, HalvesSink{tokens}, tokens.m, tokens.k, vector,
                     plan, stream);
}

}  // namespace abq::runtime::cuda
