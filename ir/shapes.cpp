#include "ir/shapes.h"

#include "compute/hadamard.h"
#include "quant/scheme.h"

namespace abq::ir {

namespace {

// One node under check, with its operands by position.
struct Site {
  const Module& module;
  const Region& region;
  const Node& node;

  const Type& type(size_t i) const { return region.type(node.operands[i]); }
  int64_t dim(size_t i, size_t axis) const { return type(i).shape[axis]; }
  std::string_view name(size_t i) const { return op_info(node.op).operands[i]; }
  int64_t attribute(const char* key) const { return node.int_attribute(key); }
};

Status mismatch(const Site& site, size_t i, std::string_view expected) {
  return invalid_argument("{} is {}, expected {}", site.name(i), to_string(site.type(i)), expected);
}

// Operand i is f32[T, K] for some K.
Status expect_activation(const Site& site, size_t i) {
  const Type& type = site.type(i);
  if (type.shape.size() == 2 && type == activation_type(type.shape[1]) && type.shape[1] > 0) {
    return {};
  }
  return mismatch(site, i, "f32[T, K]");
}

// Operand i is a tensor of the module with this many dimensions.
Status expect_weight(const Site& site, size_t i, size_t rank) {
  const int producer = site.region.producer(site.node.operands[i]);
  if (producer < 0 || site.region.nodes[static_cast<size_t>(producer)].op != Op::kWeight) {
    return invalid_argument("{} is a computed value, expected a weight", site.name(i));
  }
  if (site.type(i).shape.size() != rank) {
    return mismatch(site, i, fmt::format("a tensor with {} dimensions", rank));
  }
  return {};
}

Status expect_float_weight(const Site& site, size_t i, size_t rank) {
  ABQ_RETURN_IF_ERROR(expect_weight(site, i, rank));
  return is_float(site.type(i).element) ? Status() : mismatch(site, i, "f32, f16 or bf16");
}

Status expect_type(const Site& site, size_t i, const Type& expected) {
  return site.type(i) == expected ? Status() : mismatch(site, i, to_string(expected));
}

Status expect_result(const Site& site, const Type& expected) {
  const Type& type = site.region.type(site.node.result);
  if (type == expected) return {};
  return invalid_argument("the result is {}, expected {}", to_string(type), to_string(expected));
}

Status expect_attribute(bool good, const Site& site, const char* key, std::string_view expected) {
  if (good) return {};
  return invalid_argument("{} = {}, expected {}", key, site.attribute(key), expected);
}

Status check_weight(const Site& site) {
  const std::string& name = site.node.string_attribute("tensor");
  const auto found = site.module.tensors.find(name);
  if (found == site.module.tensors.end()) {
    return invalid_argument("tensor @{} is not declared; declare it in the module", name);
  }
  if (found->second.type == site.region.type(site.node.result)) return {};
  return invalid_argument("the value is {}, but tensor @{} is {}",
                          to_string(site.region.type(site.node.result)), name,
                          to_string(found->second.type));
}

Status check_embedding(const Site& site) {
  ABQ_RETURN_IF_ERROR(expect_type(site, 0, {ElementType::kI32, 0, {kTokenDim}}));
  ABQ_RETURN_IF_ERROR(expect_float_weight(site, 1, 2));
  return expect_result(site, activation_type(site.dim(1, 1)));
}

Status check_rms_norm(const Site& site) {
  ABQ_RETURN_IF_ERROR(expect_activation(site, 0));
  ABQ_RETURN_IF_ERROR(expect_float_weight(site, 1, 1));
  if (site.dim(1, 0) != site.dim(0, 1)) {
    return mismatch(site, 1, fmt::format("{} elements, as x has", site.dim(0, 1)));
  }
  const double eps = site.node.float_attribute("eps");
  if (!(eps >= 0 && eps < 1)) return invalid_argument("eps = {}, expected 0 <= eps < 1", eps);
  return expect_result(site, site.type(0));
}

Status check_linear(const Site& site) {
  ABQ_RETURN_IF_ERROR(expect_activation(site, 0));
  ABQ_RETURN_IF_ERROR(expect_float_weight(site, 1, 2));
  if (site.dim(1, 1) != site.dim(0, 1)) {
    return mismatch(site, 1, fmt::format("[N, {}], as x has K={}", site.dim(0, 1), site.dim(0, 1)));
  }
  return expect_result(site, activation_type(site.dim(1, 0)));
}

Status check_quantize_tokens(const Site& site) {
  ABQ_RETURN_IF_ERROR(expect_activation(site, 0));
  const int64_t bits = site.attribute("bits");
  ABQ_RETURN_IF_ERROR(expect_attribute(bits >= 1 && bits <= 8, site, "bits", "1 to 8"));
  return expect_result(site, {ElementType::kTokens, static_cast<int>(bits), site.type(0).shape});
}

// The attributes say a weight quantizer that exists.
Status check_weight_attributes(const Site& site) {
  const int64_t bits = site.attribute("bits");
  const int64_t balanced = site.attribute("balanced");
  const int64_t symmetric = site.attribute("symmetric");
  const int64_t group_size = site.attribute("group_size");
  ABQ_RETURN_IF_ERROR(expect_attribute(bits >= 1 && bits <= 8, site, "bits", "1 to 8"));
  ABQ_RETURN_IF_ERROR(expect_attribute(balanced == 0 || balanced == 1, site, "balanced", "0 or 1"));
  ABQ_RETURN_IF_ERROR(
      expect_attribute(symmetric == 0 || symmetric == 1, site, "symmetric", "0 or 1"));
  ABQ_RETURN_IF_ERROR(expect_attribute(group_size >= 0 && group_size <= 1 << 20, site, "group_size",
                                       "0 (per output channel) or more"));
  return expect_attribute(balanced == 0 || bits <= 2, site, "balanced",
                          "0: bit balance is for 1 and 2 bits only");
}

// codes: one byte each, or packed in an encoding that holds the spec's levels.
Status check_codes(const Site& site, const quant::WeightSpec& spec) {
  const Type& codes = site.type(1);
  if (codes.element == ElementType::kU8) return {};
  if (!is_packed(codes.element)) return mismatch(site, 1, "u8, planes, base5 or base3");
  const bool wrong_levels = (codes.element == ElementType::kBase5 && spec.levels() != 5) ||
                            (codes.element == ElementType::kBase3 && spec.levels() != 3);
  if (wrong_levels) return mismatch(site, 1, fmt::format("codes of {} levels", spec.levels()));
  if (codes.code_bits == spec.code_bits()) return {};
  return mismatch(site, 1,
                  fmt::format("{}<{}>", element_type_name(codes.element), spec.code_bits()));
}

Status check_bit_linear(const Site& site) {
  if (site.type(0).element == ElementType::kTokens) {
    if (site.type(0).shape.size() != 2) return mismatch(site, 0, "tokens<bits>[T, K]");
  } else {
    ABQ_RETURN_IF_ERROR(expect_activation(site, 0));
  }
  ABQ_RETURN_IF_ERROR(expect_weight(site, 1, 2));
  ABQ_RETURN_IF_ERROR(expect_weight(site, 2, 2));
  ABQ_RETURN_IF_ERROR(expect_weight(site, 3, 2));
  ABQ_RETURN_IF_ERROR(check_weight_attributes(site));
  const quant::WeightSpec spec = weight_spec(site.node);
  const int64_t n = site.dim(1, 0);
  const int64_t k = site.dim(0, 1);
  if (site.dim(1, 1) != k) return mismatch(site, 1, fmt::format("[N, {}], as x has K={}", k, k));
  ABQ_RETURN_IF_ERROR(check_codes(site, spec));
  ABQ_RETURN_IF_ERROR(quant::check_weight_spec(spec, k));
  const std::vector<int64_t> parameters = {n, spec.groups(k)};
  ABQ_RETURN_IF_ERROR(expect_type(site, 2, {ElementType::kF32, 0, parameters}));
  ABQ_RETURN_IF_ERROR(expect_type(site, 3, {ElementType::kU8, 0, parameters}));
  return expect_result(site, activation_type(n));
}

Status check_rope(const Site& site) {
  ABQ_RETURN_IF_ERROR(expect_activation(site, 0));
  const int64_t head_dim = site.attribute("head_dim");
  ABQ_RETURN_IF_ERROR(expect_attribute(head_dim > 0 && head_dim % 2 == 0, site, "head_dim",
                                       "an even number above 0"));
  ABQ_RETURN_IF_ERROR(expect_attribute(site.dim(0, 1) % head_dim == 0, site, "head_dim",
                                       fmt::format("a divisor of K={}", site.dim(0, 1))));
  const std::string& name = site.node.string_attribute("frequencies");
  const auto found = site.module.tensors.find(name);
  if (found == site.module.tensors.end()) {
    return invalid_argument("tensor @{} with the frequencies is not declared", name);
  }
  const Type expected = {ElementType::kF32, 0, {head_dim / 2}};
  if (found->second.type != expected) {
    return invalid_argument("tensor @{} with the frequencies is {}, expected {}", name,
                            to_string(found->second.type), to_string(expected));
  }
  return expect_result(site, site.type(0));
}

Status check_hadamard(const Site& site) {
  ABQ_RETURN_IF_ERROR(expect_activation(site, 0));
  const int64_t size = site.attribute("size");
  ABQ_RETURN_IF_ERROR(expect_attribute(size >= 2 && site.dim(0, 1) % size == 0, site, "size",
                                       fmt::format("a divisor of K={} above 1", site.dim(0, 1))));
  ABQ_RETURN_IF_ERROR(expect_attribute(compute::has_hadamard(size), site, "size",
                                       "the size of a Hadamard matrix (compute/hadamard.h)"));
  return expect_result(site, site.type(0));
}

bool is_cache_width(int64_t bits) {
  return (bits >= 2 && bits <= 8) || bits == 16;
}

Status check_attention(const Site& site) {
  const int64_t heads = site.attribute("heads");
  const int64_t kv_heads = site.attribute("kv_heads");
  const int64_t head_dim = site.attribute("head_dim");
  for (const char* key : {"heads", "kv_heads", "head_dim"}) {
    const int64_t value = site.attribute(key);
    ABQ_RETURN_IF_ERROR(expect_attribute(value > 0 && value <= 1 << 20, site, key, "1 to 1048576"));
  }
  ABQ_RETURN_IF_ERROR(expect_attribute(heads % kv_heads == 0, site, "heads",
                                       fmt::format("a multiple of kv_heads = {}", kv_heads)));
  for (const char* key : {"query_bits", "kv_bits"}) {
    ABQ_RETURN_IF_ERROR(
        expect_attribute(is_cache_width(site.attribute(key)), site, key, "2 to 8, or 16"));
  }
  ABQ_RETURN_IF_ERROR(expect_attribute(site.attribute("window") >= 0, site, "window",
                                       "0 (all earlier tokens) or more"));
  ABQ_RETURN_IF_ERROR(expect_attribute(site.attribute("layer") >= 0, site, "layer", "0 or more"));
  ABQ_RETURN_IF_ERROR(expect_type(site, 0, activation_type(heads * head_dim)));
  ABQ_RETURN_IF_ERROR(expect_type(site, 1, activation_type(kv_heads * head_dim)));
  ABQ_RETURN_IF_ERROR(expect_type(site, 2, activation_type(kv_heads * head_dim)));
  return expect_result(site, site.type(0));
}

Status check_elementwise(const Site& site) {
  ABQ_RETURN_IF_ERROR(expect_activation(site, 0));
  ABQ_RETURN_IF_ERROR(expect_type(site, 1, site.type(0)));
  return expect_result(site, site.type(0));
}

}  // namespace

Status check_types(const Module& module, const Region& region, const Node& node) {
  const Site site = {module, region, node};
  switch (node.op) {
    case Op::kWeight:
      return check_weight(site);
    case Op::kEmbedding:
      return check_embedding(site);
    case Op::kRmsNorm:
      return check_rms_norm(site);
    case Op::kLinear:
      return check_linear(site);
    case Op::kQuantizeTokens:
      return check_quantize_tokens(site);
    case Op::kBitLinear:
      return check_bit_linear(site);
    case Op::kRope:
      return check_rope(site);
    case Op::kHadamard:
      return check_hadamard(site);
    case Op::kAttention:
      return check_attention(site);
    case Op::kSiluMul:
    case Op::kAdd:
      return check_elementwise(site);
  }
  return internal_error("op {} has no type rule", static_cast<int>(node.op));
}

}  // namespace abq::ir
