#include "passes/layers.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace abq::passes {
namespace {

std::vector<int> nodes_of(const ir::Region& region, ir::Op op) {
  std::vector<int> found;
  for (size_t i = 0; i < region.nodes.size(); ++i)
    if (region.nodes[i].op == op) found.push_back(static_cast<int>(i));
  return found;
}

// The tensor that a node refers to by an attribute; null for most ops.
const std::string* tensor_attribute(const ir::Node& node) {
  if (node.op == ir::Op::kWeight) return &node.string_attribute("tensor");
  if (node.op == ir::Op::kRope) return &node.string_attribute("frequencies");
  return nullptr;
}

}  // namespace

std::vector<int> linear_nodes(const ir::Region& region) {
  return nodes_of(region, ir::Op::kLinear);
}

std::vector<int> bit_linear_nodes(const ir::Region& region) {
  return nodes_of(region, ir::Op::kBitLinear);
}

LinearShape linear_shape(const ir::Region& region, const ir::Node& node) {
  const std::vector<int64_t>& shape = region.type(node.operands.at(1)).shape;
  return {shape.at(0), shape.at(1)};
}

bool feeds_another(const ir::Module& module, const ir::Block& block) {
  const auto this_one = std::find_if(module.regions.begin(), module.regions.end(),
                                     [&](const ir::Region& region) { return &region == &block; });
  return std::any_of(std::next(this_one), module.regions.end(), [](const ir::Region& region) {
    return region.kind == ir::RegionKind::kBlock;
  });
}

compute::WeightQuantizer weight_quantizer(const quant::WeightSpec& spec) {
  using Kind = compute::WeightQuantizer::Kind;
  compute::WeightQuantizer quantizer;
  quantizer.levels = spec.levels();
  quantizer.group_size = spec.group_size;
  quantizer.steps = (1 << spec.bits) - (spec.balanced ? 0 : 1);
  quantizer.zero = 1 << (spec.bits - 1);
  quantizer.kind = spec.binary()    ? Kind::kBinary
                   : spec.symmetric ? Kind::kSymmetric
                                    : Kind::kAsymmetric;
  return quantizer;
}

std::vector<std::string> referenced_tensors(const ir::Region& region) {
  std::set<std::string> names;
  for (const ir::Node& node : region.nodes)
    if (const std::string* name = tensor_attribute(node)) names.insert(*name);
  return {names.begin(), names.end()};
}

bool used_elsewhere(const ir::Module& module, const ir::Region& region, const std::string& tensor) {
  for (const ir::Region& other : module.regions) {
    if (&other == &region) continue;
    for (const ir::Node& node : other.nodes) {
      const std::string* name = tensor_attribute(node);
      if (name != nullptr && *name == tensor) return true;
    }
  }
  return false;
}

void free_tensors(ir::Module& module, const ir::Region& region) {
  for (const std::string& name : referenced_tensors(region)) {
    const auto tensor = module.tensors.find(name);
    if (tensor == module.tensors.end()) continue;
    tensor->second.data.drop_pages();
    if (!used_elsewhere(module, region, name)) tensor->second.data = {};
  }
}

ir::Module extract_region(const ir::Module& module, const ir::Region& region) {
  ir::Module extract;
  extract.name = module.name;
  extract.attributes = module.attributes;
  for (const std::string& name : referenced_tensors(region)) {
    const auto tensor = module.tensors.find(name);
    if (tensor != module.tensors.end()) extract.tensors.insert(*tensor);
  }
  extract.regions.push_back(region);
  return extract;
}

Result<std::vector<float>> load_finite_weight(const ir::Module& module, const ir::Region& region,
                                              ir::ValueId value) {
  const std::string& name = module.weight_name(region, value);
  const ir::Tensor& tensor = module.weight_tensor(region, value);
  Result<std::vector<float>> values = ir::to_float(tensor);
  if (!values.ok()) return values.status().with_context(name);
  tensor.data.drop_pages();
  if (const std::optional<size_t> bad = first_non_finite(*values)) {
    const auto columns = static_cast<size_t>(tensor.type.shape.back());
    return invalid_argument("{}: row {}, column {} is {}; expected finite weights", name,
                            *bad / columns, *bad % columns, (*values)[*bad]);
  }
  return values;
}

Status change_weight(ir::Module& module, ir::Region& region, ir::ValueId value,
                     const std::function<void(MatrixView<float>)>& change) {
  ABQ_ASSIGN_OR_RETURN(std::vector<float> values, load_finite_weight(module, region, value));
  const std::vector<int64_t>& shape = region.type(value).shape;
  const int64_t cols = shape.back();
  change({values.data(), static_cast<int64_t>(values.size()) / cols, cols});
  if (first_non_finite(values))
    return invalid_argument("{}: values beyond float32 after a change of its channels",
                            module.weight_name(region, value));
  module.replace_weight(region, value, ir::make_f32_tensor(shape, values));
  return {};
}

std::optional<size_t> first_non_finite(std::span<const float> values) {
  const auto bad =
      std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
  if (bad == values.end()) return std::nullopt;
  return static_cast<size_t>(bad - values.begin());
}

}  // namespace abq::passes
