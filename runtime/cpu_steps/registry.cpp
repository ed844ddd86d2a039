#include "runtime/cpu_steps/factories.h"

namespace abq::runtime {
namespace {

struct Row {
  proto::Step::OperationCase operation;
  StepFactory factory;
};

constexpr Row kRows[] = {
    {proto::Step::kEmbedding, make_embedding},
    {proto::Step::kRmsNorm, make_rms_norm},
    {proto::Step::kLinear, make_linear},
    {proto::Step::kQuantizeTokens, make_quantize_tokens},
    {proto::Step::kBitLinear, make_bit_linear},
    {proto::Step::kRope, make_rope},
    {proto::Step::kAttention, make_attention},
    {proto::Step::kSiluMul, make_silu_mul},
    {proto::Step::kAdd, make_add},
    {proto::Step::kHadamard, make_hadamard},
};

}  // namespace

StepFactory find_cpu_step(proto::Step::OperationCase operation) {
  for (const Row& row : kRows) {
    if (row.operation == operation) return row.factory;
  }
  return nullptr;
}

}  // namespace abq::runtime
