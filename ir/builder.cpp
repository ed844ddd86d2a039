// Builder: appends nodes with names and result types worked out.
#include <algorithm>

#include "ir/graph.h"

namespace abq::ir {

namespace {

std::string unique_value_name(const Region& region, const std::string& wanted) {
  const auto taken = [&](const std::string& name) {
    return std::any_of(region.values.begin(), region.values.end(),
                       [&](const Value& value) { return value.name == name; });
  };
  if (!taken(wanted)) return wanted;
  for (int i = 1;; ++i) {
    std::string candidate = fmt::format("{}_{}", wanted, i);
    if (!taken(candidate)) return candidate;
  }
}

// The last `parts` parts of a dotted name, or all of it.
std::string last_parts(const std::string& dotted, int parts) {
  size_t begin = dotted.size() + 1;
  for (int i = 0; i < parts && begin > 1; ++i) {
    const size_t dot = dotted.rfind('.', begin - 2);
    begin = dot == std::string::npos ? 0 : dot + 1;
  }
  return dotted.substr(std::min(begin, dotted.size()));
}

// "model.layers.0.mlp.up_proj.weight" -> "up_proj_weight",
// "model.layers.0.mlp.up_proj.weight.scales" -> "up_proj_weight_scales".
std::string weight_value_name(const std::string& tensor_name) {
  std::string name = last_parts(tensor_name, 2);
  if (name.starts_with("weight.")) name = last_parts(tensor_name, 3);
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

}  // namespace

ValueId Builder::argument(std::string value_name, Type type) {
  const ValueId value = region_.add_value(std::move(value_name), std::move(type));
  region_.arguments.push_back(value);
  return value;
}

ValueId Builder::weight(const std::string& tensor_name, Tensor tensor) {
  const auto [entry, is_new] = module_.tensors.try_emplace(tensor_name, std::move(tensor));
  Node node;
  node.op = Op::kWeight;
  node.result = region_.add_value(unique_value_name(region_, weight_value_name(tensor_name)),
                                  entry->second.type);
  node.attributes["tensor"] = tensor_name;
  region_.nodes.push_back(std::move(node));
  return region_.nodes.back().result;
}

ValueId Builder::node(Op op, std::string node_name, std::vector<ValueId> operands, Type result,
                      std::map<std::string, AttributeValue> attributes) {
  Node node;
  node.op = op;
  node.result =
      region_.add_value(unique_value_name(region_, last_parts(node_name, 1)), std::move(result));
  node.name = std::move(node_name);
  node.operands = std::move(operands);
  node.attributes = std::move(attributes);
  region_.nodes.push_back(std::move(node));
  return region_.nodes.back().result;
}

ValueId Builder::embedding(std::string node_name, ValueId tokens, ValueId table) {
  const Type type = activation_type(region_.type(table).shape.at(1));
  return node(Op::kEmbedding, std::move(node_name), {tokens, table}, type);
}

ValueId Builder::rms_norm(std::string node_name, ValueId x, ValueId weight, double eps) {
  const Type type = region_.type(x);
  return node(Op::kRmsNorm, std::move(node_name), {x, weight}, type, {{"eps", eps}});
}

ValueId Builder::linear(std::string node_name, ValueId x, ValueId w) {
  const Type type = activation_type(region_.type(w).shape.at(0));
  return node(Op::kLinear, std::move(node_name), {x, w}, type);
}

ValueId Builder::rope(std::string node_name, ValueId x, int64_t head_dim, std::string frequencies) {
  const Type type = region_.type(x);
  return node(Op::kRope, std::move(node_name), {x}, type,
              {{"head_dim", head_dim}, {"frequencies", std::move(frequencies)}});
}

ValueId Builder::hadamard(std::string node_name, ValueId x, int64_t size) {
  const Type type = region_.type(x);
  return node(Op::kHadamard, std::move(node_name), {x}, type, {{"size", size}});
}

ValueId Builder::silu_mul(std::string node_name, ValueId gate, ValueId up) {
  const Type type = region_.type(gate);
  return node(Op::kSiluMul, std::move(node_name), {gate, up}, type);
}

ValueId Builder::add(std::string node_name, ValueId a, ValueId b) {
  const Type type = region_.type(a);
  return node(Op::kAdd, std::move(node_name), {a, b}, type);
}

}  // namespace abq::ir
