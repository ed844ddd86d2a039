#include "frontend/decoder_graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

namespace abq::frontend {
namespace {

using ir::Builder;
using ir::ElementType;
using ir::Op;
using ir::ValueId;

constexpr const char* kFrequencies = "rope.inverse_frequencies";

ir::Type tokens_by(int64_t width) {
  return {ElementType::kF32, 0, {ir::kTokenDim, width}};
}

bool is_weight_type(ElementType type) {
  return type == ElementType::kF32 || type == ElementType::kF16 || type == ElementType::kBF16;
}

class DecoderGraph {
 public:
  DecoderGraph(const ModelConfig& config, const CheckpointFiles& files)
      : config_(config), names_(config.family->tensors), files_(files) {}

  Result<DecoderImport> build();

 private:
  void set_attributes();
  Status add_embed();
  Status add_block(int64_t layer);
  Result<ValueId> attention(Builder& builder, int64_t layer, ValueId x);
  Result<ValueId> mlp(Builder& builder, int64_t layer, ValueId x);
  Status add_head();
  Result<ValueId> weight(Builder& builder, const std::string& name, std::vector<int64_t> shape);
  Result<ValueId> linear(Builder& builder, std::string node, ValueId x, const std::string& tensor,
                         int64_t outputs, int64_t inputs);
  Result<ValueId> norm(Builder& builder, std::string node, ValueId x, const std::string& tensor);
  Status check_unused(std::vector<std::string>* ignored) const;
  std::optional<int64_t> layer_of(std::string_view tensor) const;

  const ModelConfig& config_;
  const DecoderTensorNames& names_;
  const CheckpointFiles& files_;
  ir::Module module_;
  std::set<std::string> used_;
};

void DecoderGraph::set_attributes() {
  module_.name = std::string(config_.family->name);
  module_.attributes = {
      {"family", std::string(config_.family->name)},
      {"vocab_size", config_.vocab_size},
      {"hidden_size", config_.hidden_size},
      {"intermediate_size", config_.intermediate_size},
      {"layers", config_.layers},
      {"heads", config_.heads},
      {"kv_heads", config_.kv_heads},
      {"head_dim", config_.head_dim},
      {"context", config_.context},
      {"tie_embeddings", int64_t{config_.tie_embeddings}},
  };
}

Result<ValueId> DecoderGraph::weight(Builder& builder, const std::string& name,
                                     std::vector<int64_t> shape) {
  if (!files_.contains(name)) return not_found("{}: not in the checkpoint", name);
  ABQ_ASSIGN_OR_RETURN(ir::Tensor tensor, files_.tensor(name));
  if (!is_weight_type(tensor.type.element)) {
    return unsupported("{}: {} is not a weight type; expected F32, F16 or BF16", name,
                       ir::element_type_name(tensor.type.element));
  }
  if (tensor.type.shape != shape) {
    return invalid_argument("{}: expected shape [{}] by config.json, got [{}]", name,
                            fmt::join(shape, ", "), fmt::join(tensor.type.shape, ", "));
  }
  used_.insert(name);
  return builder.weight(name, std::move(tensor));
}

Result<ValueId> DecoderGraph::linear(Builder& builder, std::string node, ValueId x,
                                     const std::string& tensor, int64_t outputs, int64_t inputs) {
  ABQ_ASSIGN_OR_RETURN(const ValueId w, weight(builder, tensor, {outputs, inputs}));
  return builder.linear(std::move(node), x, w);
}

Result<ValueId> DecoderGraph::norm(Builder& builder, std::string node, ValueId x,
                                   const std::string& tensor) {
  ABQ_ASSIGN_OR_RETURN(const ValueId w, weight(builder, tensor, {config_.hidden_size}));
  return builder.rms_norm(std::move(node), x, w, config_.rms_norm_eps);
}

Status DecoderGraph::add_embed() {
  ir::Region region;
  region.kind = ir::RegionKind::kEmbed;
  region.name = "embed";
  Builder builder(module_, region);
  const ValueId tokens = builder.argument("tokens", {ElementType::kI32, 0, {ir::kTokenDim}});
  ABQ_ASSIGN_OR_RETURN(const ValueId table, weight(builder, std::string(names_.embedding),
                                                   {config_.vocab_size, config_.hidden_size}));
  builder.result(builder.embedding("embed", tokens, table));
  module_.regions.push_back(std::move(region));
  return {};
}

// o(attention(rope(q x), rope(k x), v x)), without norm and residual.
Result<ValueId> DecoderGraph::attention(Builder& builder, int64_t layer, ValueId x) {
  const std::string node = fmt::format("layers.{}.attn.", layer);
  const int64_t hidden = config_.hidden_size;
  const int64_t q_width = config_.heads * config_.head_dim;
  const int64_t kv_width = config_.kv_heads * config_.head_dim;
  ABQ_ASSIGN_OR_RETURN(
      const ValueId q,
      linear(builder, node + "q", x, layer_tensor_name(names_.query, layer), q_width, hidden));
  ABQ_ASSIGN_OR_RETURN(
      const ValueId k,
      linear(builder, node + "k", x, layer_tensor_name(names_.key, layer), kv_width, hidden));
  ABQ_ASSIGN_OR_RETURN(
      const ValueId v,
      linear(builder, node + "v", x, layer_tensor_name(names_.value, layer), kv_width, hidden));
  const ValueId q_rope = builder.rope(node + "q_rope", q, config_.head_dim, kFrequencies);
  const ValueId k_rope = builder.rope(node + "k_rope", k, config_.head_dim, kFrequencies);
  const ValueId mixed =
      builder.node(Op::kAttention, node + "attention", {q_rope, k_rope, v}, tokens_by(q_width),
                   {{"layer", layer},
                    {"heads", config_.heads},
                    {"kv_heads", config_.kv_heads},
                    {"head_dim", config_.head_dim},
                    {"window", config_.window},
                    {"query_bits", int64_t{16}},
                    {"kv_bits", int64_t{16}}});
  return linear(builder, node + "o", mixed, layer_tensor_name(names_.output, layer), hidden,
                q_width);
}

// down(silu(gate x) * up x), without norm and residual.
Result<ValueId> DecoderGraph::mlp(Builder& builder, int64_t layer, ValueId x) {
  const std::string node = fmt::format("layers.{}.mlp.", layer);
  const int64_t hidden = config_.hidden_size;
  const int64_t inner = config_.intermediate_size;
  ABQ_ASSIGN_OR_RETURN(
      const ValueId gate,
      linear(builder, node + "gate", x, layer_tensor_name(names_.gate, layer), inner, hidden));
  ABQ_ASSIGN_OR_RETURN(
      const ValueId up,
      linear(builder, node + "up", x, layer_tensor_name(names_.up, layer), inner, hidden));
  const ValueId act = builder.silu_mul(node + "act", gate, up);
  return linear(builder, node + "down", act, layer_tensor_name(names_.down, layer), hidden, inner);
}

Status DecoderGraph::add_block(int64_t layer) {
  ir::Region region;
  region.kind = ir::RegionKind::kBlock;
  region.name = fmt::format("layers.{}", layer);
  const std::string node = region.name + ".";
  Builder builder(module_, region);
  const ValueId x = builder.argument("x", tokens_by(config_.hidden_size));
  ABQ_ASSIGN_OR_RETURN(
      const ValueId attention_input,
      norm(builder, node + "input_norm", x, layer_tensor_name(names_.input_norm, layer)));
  ABQ_ASSIGN_OR_RETURN(const ValueId attended, attention(builder, layer, attention_input));
  const ValueId middle = builder.add(node + "attn.residual", x, attended);
  ABQ_ASSIGN_OR_RETURN(const ValueId mlp_input, norm(builder, node + "post_norm", middle,
                                                     layer_tensor_name(names_.post_norm, layer)));
  ABQ_ASSIGN_OR_RETURN(const ValueId mlp_output, mlp(builder, layer, mlp_input));
  builder.result(builder.add(node + "mlp.residual", middle, mlp_output));
  module_.regions.push_back(std::move(region));
  return {};
}

Status DecoderGraph::add_head() {
  ir::Region region;
  region.kind = ir::RegionKind::kHead;
  region.name = "head";
  Builder builder(module_, region);
  const ValueId x = builder.argument("x", tokens_by(config_.hidden_size));
  ABQ_ASSIGN_OR_RETURN(const ValueId normed,
                       norm(builder, "head.norm", x, std::string(names_.final_norm)));
  const std::string_view table = config_.tie_embeddings ? names_.embedding : names_.head;
  ABQ_ASSIGN_OR_RETURN(const ValueId logits,
                       linear(builder, "head.logits", normed, std::string(table),
                              config_.vocab_size, config_.hidden_size));
  builder.result(logits);
  module_.regions.push_back(std::move(region));
  return {};
}

// The layer number of a per-layer tensor name.
std::optional<int64_t> DecoderGraph::layer_of(std::string_view tensor) const {
  if (!tensor.starts_with(names_.layer_prefix)) return std::nullopt;
  tensor.remove_prefix(names_.layer_prefix.size());
  int64_t layer = 0;
  const auto [end, error] = std::from_chars(tensor.data(), tensor.data() + tensor.size(), layer);
  if (error != std::errc() || end == tensor.data() + tensor.size() || *end != '.') {
    return std::nullopt;
  }
  return layer;
}

Status DecoderGraph::check_unused(std::vector<std::string>* ignored) const {
  const std::vector<std::string_view>& suffixes = config_.family->ignorable_suffixes;
  for (const auto& [name, file] : files_.tensors()) {
    if (used_.contains(name)) continue;
    const std::optional<int64_t> layer = layer_of(name);
    if (layer && *layer >= config_.layers) {
      return invalid_argument(
          "{}: config.json says num_hidden_layers {}, but the checkpoint has "
          "layer {}",
          name, config_.layers, *layer);
    }
    const bool buffer = std::any_of(suffixes.begin(), suffixes.end(), [&](std::string_view suffix) {
      return name.ends_with(suffix);
    });
    // A tied head that was saved all the same is a copy of the embeddings.
    const bool tied_copy = config_.tie_embeddings && name == names_.head;
    if (!buffer && !tied_copy) {
      return unsupported("{}: {} has no place for this tensor; it would be left out", name,
                         config_.family->architecture);
    }
    ignored->push_back(name);
  }
  return {};
}

Result<DecoderImport> DecoderGraph::build() {
  set_attributes();
  module_.tensors[kFrequencies] = ir::make_f32_tensor(
      {config_.head_dim / 2}, rope_inverse_frequencies(config_.rope, config_.head_dim));
  ABQ_RETURN_IF_ERROR(add_embed());
  for (int64_t layer = 0; layer < config_.layers; ++layer) {
    ABQ_RETURN_IF_ERROR(add_block(layer));
  }
  ABQ_RETURN_IF_ERROR(add_head());
  DecoderImport result;
  ABQ_RETURN_IF_ERROR(check_unused(&result.ignored_tensors));
  result.module = std::move(module_);
  return result;
}

}  // namespace

Result<DecoderImport> build_decoder(const ModelConfig& config, const CheckpointFiles& files) {
  return DecoderGraph(config, files).build();
}

}  // namespace abq::frontend
