#include "backend/lowering.h"

#include "quant/gemm_variants.h"

namespace abq::backend {
namespace {

// Lowers the nodes of one region; each op has a member function.
class RegionLowering {
 public:
  RegionLowering(const ir::Module& module, const ir::Region& region, PlanState& state)
      : module_(module), region_(region), state_(state) {}

  Status bind_arguments();
  Status lower(const ir::Node& node);
  Status carry_results();

 private:
  bool is_token_ids(ir::ValueId value) const {
    return region_.type(value).element == ir::ElementType::kI32;
  }

  Status add_input(const ir::Node& node, size_t operand, proto::Step* step) const;
  Status add_inputs(const ir::Node& node, size_t count, proto::Step* step) const;
  Result<uint32_t> weight_blob(ir::ValueId value);
  // The same, counted as weights of the float model.
  Result<uint32_t> model_weight_blob(ir::ValueId value);
  // Appends the step with a new buffer for its result.
  Status emit(const ir::Node& node, proto::Step step);

  Status embedding(const ir::Node& node, proto::Step step);
  Status rms_norm(const ir::Node& node, proto::Step step);
  Status linear(const ir::Node& node, proto::Step step);
  Status quantize_tokens(const ir::Node& node, proto::Step step);
  Status bit_linear(const ir::Node& node, proto::Step step);
  Status rope(const ir::Node& node, proto::Step step);
  Status attention(const ir::Node& node, proto::Step step);
  Status hadamard(const ir::Node& node, proto::Step step);
  Status elementwise(const ir::Node& node, proto::Step step);

  const ir::Module& module_;
  const ir::Region& region_;
  PlanState& state_;
  std::map<ir::ValueId, uint32_t> buffers_;
};

// Token ids come in from outside; every other argument is a result of the region before.
Status RegionLowering::bind_arguments() {
  size_t carried = 0;
  for (const ir::ValueId argument : region_.arguments) {
    if (is_token_ids(argument)) continue;
    if (carried == state_.carried.size()) {
      return invalid_argument("takes more arguments than the {} results of the region before it",
                              carried);
    }
    buffers_[argument] = state_.carried[carried++];
  }
  return {};
}

Status RegionLowering::carry_results() {
  state_.carried.clear();
  for (const ir::ValueId result : region_.results) {
    const auto found = buffers_.find(result);
    if (found == buffers_.end()) {
      return invalid_argument("result %{} is no activation",
                              region_.values[static_cast<size_t>(result)].name);
    }
    state_.carried.push_back(found->second);
  }
  return {};
}

Status RegionLowering::add_input(const ir::Node& node, size_t operand, proto::Step* step) const {
  const ir::ValueId value = node.operands.at(operand);
  const auto found = buffers_.find(value);
  if (found == buffers_.end()) {
    return invalid_argument("operand {} (%{}) is no activation", operand,
                            region_.values[static_cast<size_t>(value)].name);
  }
  step->add_inputs(found->second);
  return {};
}

Status RegionLowering::add_inputs(const ir::Node& node, size_t count, proto::Step* step) const {
  for (size_t operand = 0; operand < count; ++operand)
    ABQ_RETURN_IF_ERROR(add_input(node, operand, step));
  return {};
}

Result<uint32_t> RegionLowering::weight_blob(ir::ValueId value) {
  const int producer = region_.producer(value);
  if (producer < 0 || region_.nodes[static_cast<size_t>(producer)].op != ir::Op::kWeight) {
    return invalid_argument("%{} is no weight; fold what computes it first",
                            region_.values[static_cast<size_t>(value)].name);
  }
  return state_.blobs.index_of(module_, module_.weight_name(region_, value));
}

Result<uint32_t> RegionLowering::model_weight_blob(ir::ValueId value) {
  ABQ_ASSIGN_OR_RETURN(const uint32_t blob, weight_blob(value));
  int64_t count = 1;
  for (const int64_t dimension : state_.blobs.blob(blob).shape())
    count *= dimension;
  state_.weights[blob] = count;
  return blob;
}

Status RegionLowering::emit(const ir::Node& node, proto::Step step) {
  const ir::Type& type = region_.type(node.result);
  proto::Buffer buffer;
  const bool tokens = type.element == ir::ElementType::kTokens;
  if (!tokens && type.element != ir::ElementType::kF32)
    return unsupported("result of type {} has no buffer kind", ir::to_string(type));
  buffer.set_kind(tokens ? proto::Buffer::TOKENS : proto::Buffer::FLOAT);
  if (tokens) buffer.set_bits(static_cast<uint32_t>(type.code_bits));
  buffer.set_columns(type.shape.back());
  step.set_name(node.name);
  step.set_output(static_cast<uint32_t>(state_.buffers.size()));
  buffers_[node.result] = step.output();
  state_.buffers.push_back(std::move(buffer));
  state_.steps.push_back(std::move(step));
  return {};
}

Status RegionLowering::embedding(const ir::Node& node, proto::Step step) {
  if (!is_token_ids(node.operands.at(0)))
    return invalid_argument("reads a computed value, expected the module's token ids");
  ABQ_ASSIGN_OR_RETURN(const uint32_t table, model_weight_blob(node.operands.at(1)));
  step.mutable_embedding()->set_table(table);
  return emit(node, std::move(step));
}

Status RegionLowering::rms_norm(const ir::Node& node, proto::Step step) {
  ABQ_RETURN_IF_ERROR(add_input(node, 0, &step));
  ABQ_ASSIGN_OR_RETURN(const uint32_t weight, model_weight_blob(node.operands.at(1)));
  step.mutable_rms_norm()->set_weight(weight);
  step.mutable_rms_norm()->set_eps(static_cast<float>(node.float_attribute("eps")));
  return emit(node, std::move(step));
}

Status RegionLowering::linear(const ir::Node& node, proto::Step step) {
  ABQ_RETURN_IF_ERROR(add_input(node, 0, &step));
  ABQ_ASSIGN_OR_RETURN(const uint32_t weight, model_weight_blob(node.operands.at(1)));
  step.mutable_linear()->set_weight(weight);
  return emit(node, std::move(step));
}

Status RegionLowering::quantize_tokens(const ir::Node& node, proto::Step step) {
  ABQ_RETURN_IF_ERROR(add_input(node, 0, &step));
  step.mutable_quantize_tokens()->set_bits(static_cast<uint32_t>(node.int_attribute("bits")));
  return emit(node, std::move(step));
}

Status RegionLowering::bit_linear(const ir::Node& node, proto::Step step) {
  ABQ_RETURN_IF_ERROR(add_input(node, 0, &step));
  const ir::Type& codes = region_.type(node.operands.at(1));
  if (codes.element == ir::ElementType::kU8)
    return invalid_argument("codes are not packed; run pack-weights first");
  const ir::Type& x = region_.type(node.operands.at(0));
  const int activation_bits = x.element == ir::ElementType::kTokens ? x.code_bits : 16;
  const quant::WeightSpec spec = ir::weight_spec(node);
  const quant::GemmProblem problem{spec, activation_bits, codes.shape.at(0), codes.shape.at(1)};
  ABQ_ASSIGN_OR_RETURN(const quant::GemmFamily family, quant::select_gemm(problem));
  const std::string kernel(quant::gemm_family_name(family));

  proto::QuantizedWeights* weights = step.mutable_bit_linear()->mutable_weights();
  ABQ_ASSIGN_OR_RETURN(const uint32_t code_blob, model_weight_blob(node.operands.at(1)));
  ABQ_ASSIGN_OR_RETURN(const uint32_t scale_blob, weight_blob(node.operands.at(2)));
  ABQ_ASSIGN_OR_RETURN(const uint32_t zero_blob, weight_blob(node.operands.at(3)));
  weights->set_codes(code_blob);
  weights->set_scales(scale_blob);
  weights->set_zeros(zero_blob);
  weights->set_bits(static_cast<uint32_t>(spec.bits));
  weights->set_balanced(spec.balanced);
  weights->set_group_size(static_cast<uint32_t>(spec.group_size));
  weights->set_symmetric(spec.symmetric);
  step.mutable_bit_linear()->set_activation_bits(static_cast<uint32_t>(activation_bits));
  step.mutable_bit_linear()->set_kernel(kernel);
  state_.kernels[node.name] = kernel;
  return emit(node, std::move(step));
}

Status RegionLowering::rope(const ir::Node& node, proto::Step step) {
  ABQ_RETURN_IF_ERROR(add_input(node, 0, &step));
  ABQ_ASSIGN_OR_RETURN(const uint32_t frequencies,
                       state_.blobs.index_of(module_, node.string_attribute("frequencies")));
  step.mutable_rope()->set_frequencies(frequencies);
  step.mutable_rope()->set_head_dim(static_cast<uint32_t>(node.int_attribute("head_dim")));
  return emit(node, std::move(step));
}

Status RegionLowering::attention(const ir::Node& node, proto::Step step) {
  ABQ_RETURN_IF_ERROR(add_inputs(node, 3, &step));
  const auto attribute = [&](const char* key) {
    return static_cast<uint32_t>(node.int_attribute(key));
  };
  proto::Step::Attention* attention = step.mutable_attention();
  attention->set_layer(attribute("layer"));
  attention->set_heads(attribute("heads"));
  attention->set_kv_heads(attribute("kv_heads"));
  attention->set_head_dim(attribute("head_dim"));
  attention->set_window(attribute("window"));
  attention->set_query_bits(attribute("query_bits"));
  attention->set_kv_bits(attribute("kv_bits"));
  return emit(node, std::move(step));
}

Status RegionLowering::hadamard(const ir::Node& node, proto::Step step) {
  ABQ_RETURN_IF_ERROR(add_input(node, 0, &step));
  step.mutable_hadamard()->set_size(static_cast<uint32_t>(node.int_attribute("size")));
  return emit(node, std::move(step));
}

Status RegionLowering::elementwise(const ir::Node& node, proto::Step step) {
  ABQ_RETURN_IF_ERROR(add_inputs(node, 2, &step));
  if (node.op == ir::Op::kAdd) {
    step.mutable_add();
  } else {
    step.mutable_silu_mul();
  }
  return emit(node, std::move(step));
}

Status RegionLowering::lower(const ir::Node& node) {
  switch (node.op) {
    case ir::Op::kWeight:
      return {};  // becomes a blob when a step reads it
    case ir::Op::kEmbedding:
      return embedding(node, {});
    case ir::Op::kRmsNorm:
      return rms_norm(node, {});
    case ir::Op::kLinear:
      return linear(node, {});
    case ir::Op::kQuantizeTokens:
      return quantize_tokens(node, {});
    case ir::Op::kBitLinear:
      return bit_linear(node, {});
    case ir::Op::kRope:
      return rope(node, {});
    case ir::Op::kHadamard:
      return hadamard(node, {});
    case ir::Op::kAttention:
      return attention(node, {});
    case ir::Op::kSiluMul:
    case ir::Op::kAdd:
      return elementwise(node, {});
  }
  return internal_error("an op without a step");
}

}  // namespace

Status lower_region(const ir::Module& module, const ir::Region& region, PlanState& state) {
  RegionLowering lowering(module, region, state);
  ABQ_RETURN_IF_ERROR(lowering.bind_arguments().with_context(region.name));
  for (const ir::Node& node : region.nodes) {
    ABQ_RETURN_IF_ERROR(
        lowering.lower(node).with_context(node.name.empty() ? region.name : node.name));
  }
  return lowering.carry_results().with_context(region.name);
}

}  // namespace abq::backend
