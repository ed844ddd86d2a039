// The IR: a module is a list of regions, each an SSA graph of ops, over named tensors.
//
// A decoder model is region "embed", one region per decoder block ("layers.0", ...), region "head".
// Region i's results feed region i+1's arguments; only Attention carries state between chunks.
// Model families differ only in the graph their importer builds.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "ir/types.h"
#include "quant/scheme.h"
#include "support/status.h"

namespace abq::ir {

enum class Op {
#define ABQ_OP(name, ...) k##name,
#include "ir/ops.def"
#undef ABQ_OP
};

// One row of ops.def, split into its parts.
struct OpInfo {
  Op op;
  std::string_view mnemonic;
  std::vector<std::string_view> operands;
  struct Attribute {
    std::string_view name;
    std::string_view type;  // "int", "float", "string"
  };
  std::vector<Attribute> attributes;
  std::string_view meaning;

  size_t required_operands() const;  // those without '?'
};
const std::vector<OpInfo>& op_table();
const OpInfo& op_info(Op op);
std::optional<Op> op_from_mnemonic(std::string_view mnemonic);

using AttributeValue = std::variant<int64_t, double, std::string>;

// An SSA value of a region: an index into Region::values.
using ValueId = int32_t;
struct Value {
  std::string name;  // without '%'; unique in its region
  Type type;
};

struct Node {
  Op op;
  // Stable name of what the node computes, e.g. "layers.3.mlp.down"; empty for weights.
  std::string name;
  std::vector<ValueId> operands;
  ValueId result = -1;
  std::map<std::string, AttributeValue> attributes;

  int64_t int_attribute(const std::string& key) const;
  double float_attribute(const std::string& key) const;
  const std::string& string_attribute(const std::string& key) const;
};

// The weight quantizer that a BitLinear node's attributes name, and the attributes of a quantizer.
quant::WeightSpec weight_spec(const Node& bit_linear);
std::map<std::string, AttributeValue> weight_spec_attributes(const quant::WeightSpec& spec);

enum class RegionKind { kEmbed, kBlock, kHead };
std::string_view region_kind_name(RegionKind kind);  // "embed", "block", "head"

struct Region {
  RegionKind kind = RegionKind::kBlock;
  std::string name;
  std::vector<Value> values;
  std::vector<ValueId> arguments;
  std::vector<ValueId> results;
  std::vector<Node> nodes;  // in execution order: operands are defined before use

  ValueId add_value(std::string value_name, Type type);
  // Index into nodes of the node that defines `value`; -1 for arguments.
  int producer(ValueId value) const;
  // Indices into nodes of the nodes that read `value`, in order.
  std::vector<int> users(ValueId value) const;
  const Type& type(ValueId value) const { return values[static_cast<size_t>(value)].type; }
};

// A decoder block as the passes see it.
using Block = Region;

struct Module {
  std::string name;
  std::map<std::string, AttributeValue> attributes;  // vocab_size, hidden_size, context, ...
  std::map<std::string, Tensor> tensors;
  std::vector<Region> regions;

  // The tensor behind a Weight node of `region`.
  const Tensor& weight_tensor(const Region& region, ValueId value) const;
  const std::string& weight_name(const Region& region, ValueId value) const;
  // Gives the Weight node behind `value` a new tensor (and the value its type): under the old name
  // when nothing else reads that tensor, else under a name of its own, so that a change to one
  // reader of a shared tensor (tied embeddings) never reaches the other.
  void replace_weight(Region& region, ValueId value, Tensor tensor);
  int64_t int_attribute(const std::string& key) const;
  // Weight nodes and rope frequencies, over all regions, that name the tensor.
  int tensor_readers(const std::string& tensor_name) const;
};

// Appends nodes to a region; used by importers, passes and tests.
class Builder {
 public:
  Builder(Module& module, Region& region) : module_(module), region_(region) {}

  ValueId argument(std::string value_name, Type type);
  // Declares a tensor of the module (when new) and a Weight node for it.
  ValueId weight(const std::string& tensor_name, Tensor tensor);
  // Result name = last part of `node_name` made unique.
  ValueId node(Op op, std::string node_name, std::vector<ValueId> operands, Type result,
               std::map<std::string, AttributeValue> attributes = {});
  ValueId embedding(std::string node_name, ValueId tokens, ValueId table);
  ValueId rms_norm(std::string node_name, ValueId x, ValueId weight, double eps);
  ValueId linear(std::string node_name, ValueId x, ValueId w);
  ValueId rope(std::string node_name, ValueId x, int64_t head_dim, std::string frequencies);
  ValueId hadamard(std::string node_name, ValueId x, int64_t size);
  ValueId silu_mul(std::string node_name, ValueId gate, ValueId up);
  ValueId add(std::string node_name, ValueId a, ValueId b);
  void result(ValueId value) { region_.results.push_back(value); }

 private:
  Module& module_;
  Region& region_;
};

// Drops Weight nodes without users from `region`, and their tensors when no other region names
// them.
void remove_unused_weights(Module& module, Region& region);

}  // namespace abq::ir
