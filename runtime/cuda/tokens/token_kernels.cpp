#include "runtime/cuda/token_kernels.h"

#include <limits>

#include "runtime/cuda/cuda_status.h"
#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/tokens/rows.h"

namespace abq::runtime::cuda {
namespace {

bool at_16_bytes(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}
// Absent rows (null) never stand in the way.
bool vector_rows(const ConstRows& rows) {
  return at_16_bytes(rows.data) && (rows.data == nullptr || rows.stride % 4 == 0);
}

TokenPlan plan_for(int m, int columns, bool vector) {
  return plan_tokens(m, columns, vector, launches_overlap());
}

Status check_shape(const char* kernel, int m, int columns, const ConstRows& rows) {
  if (rows.m == m && rows.columns == columns && (m == 0 || rows.stride >= columns)) return {};
  return internal_error("cuda: {}: a matrix is {} x {} with stride {}; expected {} x {}", kernel,
                        rows.m, rows.columns, rows.stride, m, columns);
}

Status check_tokens(const char* kernel, int bits) {
  if (bits >= 1 && bits <= 8) return {};
  return internal_error("cuda: {}: tokens of {} bits; expected 1 to 8", kernel, bits);
}

Status check_hadamard(const HadamardMatrix& matrix, int columns) {
  if (matrix.size() < 2 || columns % matrix.size() != 0)
    return internal_error("cuda: hadamard of {} in rows of {} columns", matrix.size(), columns);
  if (matrix.size() <= kMaxHadamardSize) return {};
  return unsupported("cuda: hadamard of {} columns; the longest is {}", matrix.size(),
                     kMaxHadamardSize);
}

}  // namespace

Status embed(const compute::FloatMatrix& device_table, const int32_t* ids, const Rows& y,
             cudaStream_t stream) {
  ABQ_RETURN_IF_ERROR(check_shape("embed", y.m, static_cast<int>(device_table.cols), y));
  if (y.m == 0) return {};
  ABQ_RETURN_IF_CUDA_ERROR(launch_embed(float_weights(device_table), ids, rows_out(y), y.m, stream),
                           "embed of {} tokens, {} columns", y.m, y.columns);
  return {};
}

Status rms_norm(const ConstRows& x, const float* weight, float eps, const Rows& y,
                cudaStream_t stream) {
  ABQ_RETURN_IF_ERROR(check_shape("rms_norm", x.m, x.columns, y));
  if (x.m == 0) return {};
  const bool vector = x.columns % 4 == 0 && vector_rows(x) && vector_rows(y) && at_16_bytes(weight);
  ABQ_RETURN_IF_CUDA_ERROR(launch_rms_norm(rows_in(x), weight, eps, rows_out(y), x.m, x.columns,
                                           vector, plan_for(x.m, x.columns, vector), stream),
                           "rms_norm of {} x {}", x.m, x.columns);
  return {};
}

Status rms_norm_quantize(const ConstRows& x, const float* weight, float eps, const Rows& y,
                         const TokenTiles& tokens, cudaStream_t stream) {
  ABQ_RETURN_IF_ERROR(check_shape("rms_norm_quantize", tokens.m, tokens.k, x));
  if (y.data != nullptr)
    ABQ_RETURN_IF_ERROR(check_shape("rms_norm_quantize", tokens.m, tokens.k, y));
  ABQ_RETURN_IF_ERROR(check_tokens("rms_norm_quantize", tokens.bits));
  if (x.m == 0) return {};
  const bool vector = x.columns % 4 == 0 && vector_rows(x) && vector_rows(y) && at_16_bytes(weight);
  ABQ_RETURN_IF_CUDA_ERROR(
      launch_rms_norm_quantize(rows_in(x), weight, eps, rows_out(y), tokens, vector,
                               plan_for(x.m, x.columns, vector), stream),
      "rms_norm_quantize of {} x {}, {} bits", x.m, x.columns, tokens.bits);
  return {};
}

Status quantize(const ConstRows& x, const TokenTiles& tokens, cudaStream_t stream) {
  ABQ_RETURN_IF_ERROR(check_shape("quantize", tokens.m, tokens.k, x));
  ABQ_RETURN_IF_ERROR(check_tokens("quantize", tokens.bits));
  if (x.m == 0) return {};
  const bool vector = x.columns % 4 == 0 && vector_rows(x);
  ABQ_RETURN_IF_CUDA_ERROR(
      launch_quantize(rows_in(x), tokens, vector, plan_for(x.m, x.columns, vector), stream),
      "quantize of {} x {}, {} bits", x.m, x.columns, tokens.bits);
  return {};
}

Status silu_mul(const ConstRows& gate, const ConstRows& up, const Rows& y, cudaStream_t stream) {
  ABQ_RETURN_IF_ERROR(check_shape("silu_mul", gate.m, gate.columns, up));
  ABQ_RETURN_IF_ERROR(check_shape("silu_mul", gate.m, gate.columns, y));
  if (y.m == 0) return {};
  const bool vector = y.columns % 4 == 0 && vector_rows(gate) && vector_rows(up) && vector_rows(y);
  ABQ_RETURN_IF_CUDA_ERROR(
      launch_silu_mul(rows_in(gate), rows_in(up), rows_out(y), y.m, y.columns, vector, stream),
      "silu_mul of {} x {}", y.m, y.columns);
  return {};
}

Status silu_mul_quantize(const ConstRows& gate, const ConstRows& up, const TokenTiles& tokens,
                         cudaStream_t stream) {
  ABQ_RETURN_IF_ERROR(check_shape("silu_mul_quantize", tokens.m, tokens.k, gate));
  ABQ_RETURN_IF_ERROR(check_shape("silu_mul_quantize", tokens.m, tokens.k, up));
  ABQ_RETURN_IF_ERROR(check_tokens("silu_mul_quantize", tokens.bits));
  if (tokens.m == 0) return {};
  const bool vector = tokens.k % 4 == 0 && vector_rows(gate) && vector_rows(up);
  ABQ_RETURN_IF_CUDA_ERROR(launch_silu_mul_quantize(rows_in(gate), rows_in(up), tokens, vector,
                                                    plan_for(tokens.m, tokens.k, vector), stream),
                           "silu_mul_quantize of {} x {}, {} bits", tokens.m, tokens.k,
                           tokens.bits);
  return {};
}

Status add(const ConstRows& a, const ConstRows& b, const Rows& y, cudaStream_t stream) {
  ABQ_RETURN_IF_ERROR(check_shape("add", a.m, a.columns, b));
  ABQ_RETURN_IF_ERROR(check_shape("add", a.m, a.columns, y));
  if (y.m == 0) return {};
  const bool vector = y.columns % 4 == 0 && vector_rows(a) && vector_rows(b) && vector_rows(y);
  ABQ_RETURN_IF_CUDA_ERROR(
      launch_add(rows_in(a), rows_in(b), rows_out(y), y.m, y.columns, vector, stream),
      "add of {} x {}", y.m, y.columns);
  return {};
}

Status hadamard(const ConstRows& x, const HadamardMatrix& matrix, const Rows& y,
                cudaStream_t stream) {
  ABQ_RETURN_IF_ERROR(check_shape("hadamard", x.m, x.columns, y));
  ABQ_RETURN_IF_ERROR(check_hadamard(matrix, x.columns));
  if (x.m == 0) return {};
  const bool vector = x.columns % 4 == 0 && vector_rows(x) && vector_rows(y);
  const HadamardPlan plan = plan_hadamard(matrix, x.m, x.columns, x.data == y.data);
  ABQ_RETURN_IF_CUDA_ERROR(
      launch_hadamard(rows_in(x), matrix, rows_out(y), x.m, x.columns, vector, plan, stream),
      "hadamard of {} in {} x {}", matrix.size(), x.m, x.columns);
  return {};
}

Status hadamard_quantize(const ConstRows& x, const HadamardMatrix& matrix, const Rows& y,
                         bool keeps_y, const TokenTiles& tokens, cudaStream_t stream) {
  ABQ_RETURN_IF_ERROR(check_shape("hadamard_quantize", tokens.m, tokens.k, x));
  ABQ_RETURN_IF_ERROR(check_shape("hadamard_quantize", tokens.m, tokens.k, y));
  ABQ_RETURN_IF_ERROR(check_tokens("hadamard_quantize", tokens.bits));
  ABQ_RETURN_IF_ERROR(check_hadamard(matrix, x.columns));
  if (x.m == 0) return {};
  HadamardRowPlan plan;
  if (launches_overlap()) plan = choose_hadamard_rows(matrix, x.m, x.columns);
  if (plan.blocks == 0) {
    ABQ_RETURN_IF_ERROR(hadamard(x, matrix, y, stream));
    return quantize(y, tokens, stream);
  }
  const Rows kept = keeps_y ? y : Rows{};
  const bool vector = x.columns % 4 == 0 && vector_rows(x) && vector_rows(kept);
  ABQ_RETURN_IF_CUDA_ERROR(
      launch_hadamard_quantize(rows_in(x), matrix, rows_out(kept), tokens, vector, plan, stream),
      "hadamard_quantize of {} in {} x {}, {} bits", matrix.size(), x.m, x.columns, tokens.bits);
  return {};
}

Status split_halves(const ConstRows& x, const HalfTokens& tokens, cudaStream_t stream) {
  ABQ_RETURN_IF_ERROR(check_shape("split_halves", tokens.m, tokens.k, x));
  if (x.m == 0) return {};
  const bool vector = x.columns % 4 == 0 && vector_rows(x);
  ABQ_RETURN_IF_CUDA_ERROR(
      launch_split_halves(rows_in(x), tokens, vector, plan_for(x.m, x.columns, vector), stream),
      "split_halves of {} x {}", x.m, x.columns);
  return {};
}

Status argmax(const ConstRows& x, int32_t* best, cudaStream_t stream) {
  if (x.columns <= 0) return internal_error("cuda: argmax of {} columns", x.columns);
  if (x.m == 0) return {};
  const bool vector = x.columns % 4 == 0 && vector_rows(x);
  ABQ_RETURN_IF_CUDA_ERROR(launch_argmax(rows_in(x), best, x.m, x.columns, vector, stream),
                           "argmax of {} x {}", x.m, x.columns);
  return {};
}

Status draw_tokens(const ConstRows& logits, const TokenDraw* draws, int32_t* ids,
                   cudaStream_t stream) {
  if (logits.columns <= 0) return internal_error("cuda: a draw from {} logits", logits.columns);
  if (logits.m == 0) return {};
  ABQ_RETURN_IF_CUDA_ERROR(
      launch_draw(rows_in(logits), draws, ids, logits.m, logits.columns, stream),
      "draws from {} x {} logits", logits.m, logits.columns);
  return {};
}

}  // namespace abq::runtime::cuda
