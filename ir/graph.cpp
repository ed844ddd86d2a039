#include "ir/graph.h"

#include <algorithm>

namespace abq::ir {

namespace {

std::vector<std::string_view> split_list(std::string_view text) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const size_t comma = text.find(", ");
    parts.push_back(text.substr(0, comma));
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 2);
  }
  return parts;
}

OpInfo make_op_info(Op op, std::string_view mnemonic, std::string_view operands,
                    std::string_view attributes, std::string_view meaning) {
  OpInfo info{op, mnemonic, split_list(operands), {}, meaning};
  for (const std::string_view attribute : split_list(attributes)) {
    const size_t colon = attribute.find(':');
    info.attributes.push_back({attribute.substr(0, colon), attribute.substr(colon + 1)});
  }
  return info;
}

template <class T>
const T& attribute_as(const std::map<std::string, AttributeValue>& attributes,
                      const std::string& key) {
  const auto found = attributes.find(key);
  ABQ_CHECK(found != attributes.end());
  const T* value = std::get_if<T>(&found->second);
  ABQ_CHECK(value != nullptr);
  return *value;
}

// The tensor that a node reads by name, or null.
const std::string* named_tensor(const Node& node) {
  const char* key = node.op == Op::kWeight ? "tensor" : node.op == Op::kRope ? "frequencies" : "";
  const auto found = node.attributes.find(key);
  return found == node.attributes.end() ? nullptr : std::get_if<std::string>(&found->second);
}

}  // namespace

const std::vector<OpInfo>& op_table() {
  static const std::vector<OpInfo> table = {
#define ABQ_OP(name, ...) make_op_info(Op::k##name, __VA_ARGS__),
#include "ir/ops.def"
#undef ABQ_OP
  };
  return table;
}

const OpInfo& op_info(Op op) {
  return op_table()[static_cast<size_t>(op)];
}

std::optional<Op> op_from_mnemonic(std::string_view mnemonic) {
  for (const OpInfo& info : op_table()) {
    if (info.mnemonic == mnemonic) return info.op;
  }
  return std::nullopt;
}

size_t OpInfo::required_operands() const {
  return static_cast<size_t>(std::count_if(operands.begin(), operands.end(),
                                           [](std::string_view o) { return !o.ends_with('?'); }));
}

int64_t Node::int_attribute(const std::string& key) const {
  return attribute_as<int64_t>(attributes, key);
}

double Node::float_attribute(const std::string& key) const {
  return attribute_as<double>(attributes, key);
}

const std::string& Node::string_attribute(const std::string& key) const {
  return attribute_as<std::string>(attributes, key);
}

quant::WeightSpec weight_spec(const Node& bit_linear) {
  quant::WeightSpec spec;
  spec.bits = static_cast<int>(bit_linear.int_attribute("bits"));
  spec.balanced = bit_linear.int_attribute("balanced") != 0;
  spec.group_size = static_cast<int>(bit_linear.int_attribute("group_size"));
  spec.symmetric = bit_linear.int_attribute("symmetric") != 0;
  return spec;
}

std::map<std::string, AttributeValue> weight_spec_attributes(const quant::WeightSpec& spec) {
  return {{"bits", int64_t{spec.bits}},
          {"balanced", int64_t{spec.balanced}},
          {"group_size", int64_t{spec.group_size}},
          {"symmetric", int64_t{spec.symmetric}}};
}

std::string_view region_kind_name(RegionKind kind) {
  switch (kind) {
    case RegionKind::kEmbed:
      return "embed";
    case RegionKind::kBlock:
      return "block";
    case RegionKind::kHead:
      return "head";
  }
  return "?";
}

ValueId Region::add_value(std::string value_name, Type type) {
  values.push_back({std::move(value_name), std::move(type)});
  return static_cast<ValueId>(values.size() - 1);
}

int Region::producer(ValueId value) const {
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].result == value) return static_cast<int>(i);
  }
  return -1;
}

std::vector<int> Region::users(ValueId value) const {
  std::vector<int> found;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const std::vector<ValueId>& operands = nodes[i].operands;
    if (std::find(operands.begin(), operands.end(), value) != operands.end()) {
      found.push_back(static_cast<int>(i));
    }
  }
  return found;
}

const std::string& Module::weight_name(const Region& region, ValueId value) const {
  const int producer = region.producer(value);
  ABQ_CHECK(producer >= 0 && region.nodes[static_cast<size_t>(producer)].op == Op::kWeight);
  return region.nodes[static_cast<size_t>(producer)].string_attribute("tensor");
}

const Tensor& Module::weight_tensor(const Region& region, ValueId value) const {
  const auto found = tensors.find(weight_name(region, value));
  ABQ_CHECK(found != tensors.end());
  return found->second;
}

int Module::tensor_readers(const std::string& tensor_name) const {
  int count = 0;
  for (const Region& region : regions) {
    for (const Node& node : region.nodes) {
      const std::string* read = named_tensor(node);
      if (read != nullptr && *read == tensor_name) ++count;
    }
  }
  return count;
}

void Module::replace_weight(Region& region, ValueId value, Tensor tensor) {
  std::string tensor_name = weight_name(region, value);
  if (tensor_readers(tensor_name) > 1) {
    const std::string base = tensor_name + "." + region.name;
    tensor_name = base;
    for (int i = 1; tensors.contains(tensor_name); ++i)
      tensor_name = fmt::format("{}_{}", base, i);
    region.nodes[static_cast<size_t>(region.producer(value))].attributes["tensor"] = tensor_name;
  }
  region.values[static_cast<size_t>(value)].type = tensor.type;
  tensors[tensor_name] = std::move(tensor);
}

int64_t Module::int_attribute(const std::string& key) const {
  return attribute_as<int64_t>(attributes, key);
}

void remove_unused_weights(Module& module, Region& region) {
  std::vector<Node> kept;
  std::vector<std::string> dropped;
  std::vector<bool> used(region.values.size(), false);
  for (const ValueId value : region.results)
    used[static_cast<size_t>(value)] = true;
  for (const Node& node : region.nodes) {
    for (const ValueId value : node.operands)
      used[static_cast<size_t>(value)] = true;
  }
  for (Node& node : region.nodes) {
    if (node.op == Op::kWeight && !used[static_cast<size_t>(node.result)]) {
      dropped.push_back(node.string_attribute("tensor"));
    } else {
      kept.push_back(std::move(node));
    }
  }
  region.nodes = std::move(kept);
  for (const std::string& tensor_name : dropped) {
    if (module.tensor_readers(tensor_name) == 0) module.tensors.erase(tensor_name);
  }
}

}  // namespace abq::ir
