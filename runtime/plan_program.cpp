#include "runtime/plan_program.h"

#include <utility>

namespace abq::runtime {
namespace {

compute::FloatType float_type(proto::ElementType type) {
  switch (type) {
    case proto::F16:
      return compute::FloatType::kF16;
    case proto::BF16:
      return compute::FloatType::kBF16;
    default:
      return compute::FloatType::kF32;
  }
}

template <class T>
std::span<const T> blob_span(const LoadedPlan& plan, uint32_t blob) {
  const std::span<const std::byte> bytes = plan.blob_bytes(blob);
  return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
}

Program::Attention attention_of(const proto::Step::Attention& step) {
  Program::Attention attention;
  attention.layer = static_cast<int>(step.layer());
  attention.shape = {.heads = static_cast<int>(step.heads()),
                     .kv_heads = static_cast<int>(step.kv_heads()),
                     .head_dim = static_cast<int>(step.head_dim()),
                     .window = step.window()};
  attention.query_bits = static_cast<int>(step.query_bits());
  attention.kv_bits = static_cast<int>(step.kv_bits());
  return attention;
}

Program::Operation operation_of(const LoadedPlan& plan, const proto::Step& step) {
  switch (step.operation_case()) {
    case proto::Step::kEmbedding:
      return Program::Embedding{blob_matrix(plan, step.embedding().table())};
    case proto::Step::kRmsNorm:
      return Program::RmsNorm{blob_matrix(plan, step.rms_norm().weight()), step.rms_norm().eps()};
    case proto::Step::kLinear:
      return Program::Linear{blob_matrix(plan, step.linear().weight())};
    case proto::Step::kQuantizeTokens:
      return Program::QuantizeTokens{static_cast<int>(step.quantize_tokens().bits())};
    case proto::Step::kBitLinear:
      return Program::BitLinear{stored_weights(plan, step.bit_linear().weights()),
                                static_cast<int>(step.bit_linear().activation_bits())};
    case proto::Step::kRope:
      return Program::Rope{blob_span<float>(plan, step.rope().frequencies()),
                           static_cast<int>(step.rope().head_dim())};
    case proto::Step::kAttention:
      return attention_of(step.attention());
    case proto::Step::kHadamard:
      return Program::Hadamard{step.hadamard().size()};
    case proto::Step::kSiluMul:
      return Program::SiluMul{};
    case proto::Step::kAdd:
    case proto::Step::OPERATION_NOT_SET:  // refused by the plan reader
      break;
  }
  return Program::Add{};
}

Tuning tuning_of(const proto::Tuning& message) {
  Tuning tuning;
  tuning.device = message.device();
  for (const proto::Tuning::Choice& choice : message.choices()) {
    tuning.choices.push_back({.planes = static_cast<int>(choice.planes()),
                              .base5 = choice.base5(),
                              .group_size = static_cast<int>(choice.group_size()),
                              .activation_bits = static_cast<int>(choice.activation_bits()),
                              .n = choice.n(),
                              .k = choice.k(),
                              .max_m = choice.max_m(),
                              .kernel = choice.kernel(),
                              .us = 0});
  }
  return tuning;
}

std::vector<uint32_t> weight_blobs(const proto::Step& step) {
  if (step.has_bit_linear()) {
    const proto::QuantizedWeights& weights = step.bit_linear().weights();
    return {weights.codes(), weights.scales(), weights.zeros()};
  }
  if (step.has_linear()) return {step.linear().weight()};
  if (step.has_embedding()) return {step.embedding().table()};
  return {};
}

}  // namespace

compute::FloatMatrix blob_matrix(const LoadedPlan& plan, uint32_t blob) {
  const proto::Blob& record = plan.plan().blobs(static_cast<int>(blob));
  const int64_t rows = record.shape_size() == 2 ? record.shape(0) : 1;
  return {float_type(record.type()), plan.blob_bytes(blob).data(), rows,
          record.shape(record.shape_size() - 1)};
}

StoredWeights stored_weights(const LoadedPlan& plan, const proto::QuantizedWeights& weights) {
  const proto::Blob& codes = plan.plan().blobs(static_cast<int>(weights.codes()));
  StoredWeights stored;
  stored.spec = weight_spec(weights);
  stored.layout = quant::PackedLayout::for_weights(stored.spec, codes.shape(0), codes.shape(1));
  stored.packed = plan.blob_bytes(weights.codes());
  stored.scales = blob_span<float>(plan, weights.scales());
  stored.zeros = blob_span<uint8_t>(plan, weights.zeros());
  return stored;
}

Program make_program(std::shared_ptr<const LoadedPlan> plan) {
  const proto::Plan& message = plan->plan();
  Program program;
  program.vocab_size = message.model().vocab_size();
  program.context = message.model().context();
  for (const proto::Buffer& buffer : message.buffers())
    program.buffers.push_back({buffer.columns(), static_cast<int>(buffer.bits())});
  for (const proto::Step& step : message.steps()) {
    program.steps.push_back({step.name(),
                             {step.inputs().begin(), step.inputs().end()},
                             step.output(),
                             operation_of(*plan, step)});
  }
  for (const proto::Tuning& tuning : message.tunings())
    program.tunings.push_back(tuning_of(tuning));
  program.release_step = [plan = std::move(plan)](int step) {
    for (const uint32_t blob : weight_blobs(plan->plan().steps(step)))
      plan->drop_blob_pages(blob);
  };
  return program;
}

}  // namespace abq::runtime
