// RMS norm, alone and with quantization.
#include "runtime/cuda/tokens/row_sinks.cuh"
#include "runtime/cuda/tokens/row_sources.cuh"
#include "runtime/cuda/tokens/token_launchers.h"

namespace abq::runtime::cuda {
namespace {

NormSource norm_source(RowsIn x, const float* weight, float eps, int columns) {
  return {{x.data, x.stride}, weight, 1.0f / static_cast<float>(columns), eps};
}

}  // namespace

cudaError_t launch_rms_norm(RowsIn x, const float* weight, float eps, RowsOut y, int m, int columns,
                            bool vector, const TokenPlan& plan, cudaStream_t stream) {
  return launch_rows(norm_source(x, weight, eps, columns), FloatSink{y.data, y.stride}, m, columns,
                     vector, plan, stream);
}

cudaError_t launch_rms_norm_quantize(RowsIn x, const float* weight, float eps, RowsOut y,
                                     const TokenTiles& tokens, bool vector, const TokenPlan& plan,
                                     cudaStream_t stream) {
  const QuantizeSink sink{tokens, {y.data, y.stride}, static_cast<float>((1 << tokens.bits) - 1)};
  return launch_rows(norm_source(x, weight, eps, tokens.k), sink, tokens.m, tokens.k, vector, plan,
                     stream);
}

}  // namespace abq::runtime::cuda
