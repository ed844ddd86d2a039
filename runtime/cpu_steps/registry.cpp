#include <algorithm>

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

struct PairRow {
  proto::Step::OperationCase first;
  proto::Step::OperationCase second;
  StepFactory factory;  // called with the first
};

constexpr PairRow kPairRows[] = {
    {proto::Step::kHadamard, proto::Step::kQuantizeTokens, make_hadamard_quantize},
};

// Whether step `first + 1` is all that reads what step `first` writes.
bool next_reads_alone(const proto::Plan& plan, int first) {
  const uint32_t buffer = plan.steps(first).output();
  const auto reads = [buffer](const proto::Step& step) {
    return std::count(step.inputs().begin(), step.inputs().end(), buffer);
  };
  int64_t readers = 0;
  for (const proto::Step& step : plan.steps())
    readers += reads(step);
  return readers == 1 && reads(plan.steps(first + 1)) == 1;
}

}  // namespace

CpuStep find_cpu_step(const proto::Plan& plan, int first) {
  const proto::Step::OperationCase operation = plan.steps(first).operation_case();
  for (const PairRow& row : kPairRows) {
    if (row.first == operation && first + 1 < plan.steps_size() &&
        row.second == plan.steps(first + 1).operation_case() && next_reads_alone(plan, first))
      return {row.factory, 2};
  }
  for (const Row& row : kRows) {
    if (row.operation == operation) return {row.factory, 1};
  }
  return {};
}

}  // namespace abq::runtime
