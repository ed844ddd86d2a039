#include "ir/verifier.h"

#include <algorithm>
#include <map>
#include <set>

#include "ir/shapes.h"

namespace abq::ir {

namespace {

constexpr size_t kMaxReported = 8;

// How a message names a node: its own name, or the value of a weight.
std::string subject(const Region& region, const Node& node) {
  if (!node.name.empty()) return region.name + ": " + node.name;
  const bool named = node.result >= 0 && static_cast<size_t>(node.result) < region.values.size();
  return fmt::format("{}: %{}", region.name,
                     named ? region.values[static_cast<size_t>(node.result)].name : "?");
}

// ---- Rules of a region. Each may rely on those before it. ----

Status values_exist(const Region& region) {
  const auto exists = [&](ValueId value) {
    return value >= 0 && static_cast<size_t>(value) < region.values.size();
  };
  for (const std::vector<ValueId>* list : {&region.arguments, &region.results}) {
    for (const ValueId value : *list) {
      if (!exists(value)) return invalid_argument("{}: no value {}", region.name, value);
    }
  }
  for (const Node& node : region.nodes) {
    if (!exists(node.result)) {
      return invalid_argument("{}: result is no value: {}", subject(region, node), node.result);
    }
    for (const ValueId value : node.operands) {
      if (!exists(value)) {
        return invalid_argument("{}: operand is no value: {}", subject(region, node), value);
      }
    }
  }
  return {};
}

Status one_argument_one_result(const Region& region) {
  if (region.arguments.size() == 1 && region.results.size() == 1) return {};
  return invalid_argument("{}: {} arguments and {} results, expected one of each", region.name,
                          region.arguments.size(), region.results.size());
}

Status defined_once_and_before_use(const Region& region) {
  std::set<ValueId> defined(region.arguments.begin(), region.arguments.end());
  const auto name = [&](ValueId value) { return region.values[static_cast<size_t>(value)].name; };
  for (const Node& node : region.nodes) {
    for (const ValueId value : node.operands) {
      if (!defined.contains(value)) {
        return invalid_argument("{}: %{} is used before it is defined", subject(region, node),
                                name(value));
      }
    }
    if (!defined.insert(node.result).second) {
      return invalid_argument("{}: %{} is defined twice", subject(region, node), name(node.result));
    }
  }
  for (const ValueId value : region.results) {
    if (!defined.contains(value)) {
      return invalid_argument("{}: result %{} is never defined", region.name, name(value));
    }
  }
  return {};
}

Status value_names_unique(const Region& region) {
  std::vector<ValueId> defined = region.arguments;
  for (const Node& node : region.nodes)
    defined.push_back(node.result);
  std::set<std::string_view> names;
  for (const ValueId value : defined) {
    const std::string& name = region.values[static_cast<size_t>(value)].name;
    if (name.empty()) return invalid_argument("{}: value {} has no name", region.name, value);
    if (!names.insert(name).second) {
      return invalid_argument("{}: two values are named %{}", region.name, name);
    }
  }
  return {};
}

// ---- Rules of a node. Each may rely on those before it, and on the region's. ----

Status node_named(const Module&, const Region&, const Node& node) {
  if (node.name.empty() == (node.op == Op::kWeight)) return {};
  return invalid_argument(
      "{}", node.op == Op::kWeight ? "a weight has no name of its own" : "the node has no name");
}

Status operand_count_fits(const Module&, const Region&, const Node& node) {
  const OpInfo& info = op_info(node.op);
  const size_t count = node.operands.size();
  if (count >= info.required_operands() && count <= info.operands.size()) return {};
  return invalid_argument("{} has {} operands, expected {}", info.mnemonic, count,
                          info.operands.size());
}

std::string_view type_name(const AttributeValue& value) {
  if (std::holds_alternative<int64_t>(value)) return "int";
  return std::holds_alternative<double>(value) ? "float" : "string";
}

Status attributes_fit(const Module&, const Region&, const Node& node) {
  const OpInfo& info = op_info(node.op);
  for (const OpInfo::Attribute& attribute : info.attributes) {
    const auto found = node.attributes.find(std::string(attribute.name));
    if (found == node.attributes.end()) {
      return invalid_argument("attribute {} is missing; {} needs it as {}", attribute.name,
                              info.mnemonic, attribute.type);
    }
    if (type_name(found->second) != attribute.type) {
      return invalid_argument("attribute {} is of type {}, expected {}", attribute.name,
                              type_name(found->second), attribute.type);
    }
  }
  for (const auto& [key, value] : node.attributes) {
    const bool known =
        std::any_of(info.attributes.begin(), info.attributes.end(),
                    [&](const OpInfo::Attribute& attribute) { return attribute.name == key; });
    if (!known) return invalid_argument("{} has no attribute {}", info.mnemonic, key);
  }
  return {};
}

// ---- Rules of the module. The last three rely on sound regions. ----

Status tensors_well_formed(const Module& module) {
  for (const auto& [name, tensor] : module.tensors) {
    const std::vector<int64_t>& shape = tensor.type.shape;
    const bool concrete =
        std::all_of(shape.begin(), shape.end(), [](int64_t dim) { return dim > 0; });
    if (!concrete || tensor.type.element == ElementType::kTokens ||
        (is_packed(tensor.type.element) && shape.size() != 2)) {
      return invalid_argument("tensor @{}: type {} is no tensor type; dimensions are above 0", name,
                              to_string(tensor.type));
    }
    const auto stored = static_cast<int64_t>(tensor.data.bytes().size());
    if (tensor.data.present() && stored != byte_size(tensor.type)) {
      return invalid_argument("tensor @{}: {} bytes of data, expected {} for {}", name, stored,
                              byte_size(tensor.type), to_string(tensor.type));
    }
  }
  return {};
}

// A module of blocks alone is legal: passes and tests work on single blocks.
Status regions_in_order(const Module& module) {
  for (size_t i = 1; i < module.regions.size(); ++i) {
    const RegionKind before = module.regions[i - 1].kind;
    const RegionKind kind = module.regions[i].kind;
    if (kind != RegionKind::kEmbed && before != RegionKind::kHead) continue;
    return invalid_argument("{}: {} region after {} region {}", module.regions[i].name,
                            region_kind_name(kind), region_kind_name(before),
                            module.regions[i - 1].name);
  }
  return {};
}

Status region_names_unique(const Module& module) {
  std::set<std::string_view> names;
  for (const Region& region : module.regions) {
    if (region.name.empty()) return invalid_argument("a region has no name");
    if (!names.insert(region.name).second) {
      return invalid_argument("two regions are named {}", region.name);
    }
  }
  return {};
}

Status boundaries_match(const Module& module) {
  for (size_t i = 1; i < module.regions.size(); ++i) {
    const Region& before = module.regions[i - 1];
    const Region& region = module.regions[i];
    const Type& given = before.type(before.results[0]);
    const Type& taken = region.type(region.arguments[0]);
    if (given == taken) continue;
    return invalid_argument("{}: the argument is {}, but {} gives {}", region.name,
                            to_string(taken), before.name, to_string(given));
  }
  return {};
}

Status node_names_unique(const Module& module) {
  std::set<std::string_view> names;
  for (const Region& region : module.regions) {
    for (const Node& node : region.nodes) {
      if (node.op == Op::kWeight || names.insert(node.name).second) continue;
      return invalid_argument("{}: two nodes are named {}", region.name, node.name);
    }
  }
  return {};
}

Status attention_layers_unique(const Module& module) {
  std::map<int64_t, std::string> owners;
  for (const Region& region : module.regions) {
    for (const Node& node : region.nodes) {
      if (node.op != Op::kAttention) continue;
      const auto [owner, is_new] = owners.emplace(node.int_attribute("layer"), node.name);
      if (is_new) continue;
      return invalid_argument("{}: layer = {} belongs to {} already", subject(region, node),
                              owner->first, owner->second);
    }
  }
  return {};
}

// ---- The law. ----

template <class... Args>
struct Rule {
  std::string_view sentence;
  Status (*check)(const Args&...);
};

constexpr Rule<Region> kRegionRules[] = {
    {"operands, arguments and results are values of the region", values_exist},
    {"a region has one argument and one result", one_argument_one_result},
    {"every value is defined once, before its uses", defined_once_and_before_use},
    {"values have names, unique in their region", value_names_unique},
};

constexpr Rule<Module, Region, Node> kNodeRules[] = {
    {"every node but a weight has a name", node_named},
    {"a node has the operands of the op table", operand_count_fits},
    {"a node has the attributes of the op table and no others", attributes_fit},
    {"types and attributes fit the op", check_types},
};

constexpr Rule<Module> kModuleRules[] = {
    {"tensors have sizes above zero and data of their size", tensors_well_formed},
    {"regions are an embed, then blocks, then a head", regions_in_order},
    {"regions have names, unique in the module", region_names_unique},
};

constexpr Rule<Module> kWholeModelRules[] = {
    {"a region takes what the one before it gives", boundaries_match},
    {"node names are unique in the module", node_names_unique},
    {"every attention node has a layer number of its own", attention_layers_unique},
};

class Verifier {
 public:
  explicit Verifier(const Module& module) : module_(module) {}

  Status run() {
    for (const auto& rule : kModuleRules)
      report(rule.check(module_), rule.sentence);
    for (const Region& region : module_.regions)
      check_region(region);
    // These look through all regions and need every one of them sound.
    for (const auto& rule : kWholeModelRules) {
      if (failures_.empty()) report(rule.check(module_), rule.sentence);
    }
    if (failures_.empty()) return {};
    return {StatusCode::kInvalidArgument, fmt::format("{}", fmt::join(failures_, "\n"))};
  }

 private:
  bool report(const Status& status, std::string_view sentence) {
    if (status.ok()) return true;
    if (failures_.size() < kMaxReported) {
      failures_.push_back(fmt::format("{} (rule: {})", status.message(), sentence));
    }
    return false;
  }

  void check_region(const Region& region) {
    for (const auto& rule : kRegionRules) {
      if (!report(rule.check(region), rule.sentence)) return;
    }
    for (const Node& node : region.nodes) {
      for (const auto& rule : kNodeRules) {
        const Status status = rule.check(module_, region, node);
        if (!report(status.with_context(subject(region, node)), rule.sentence)) break;
      }
    }
  }

  const Module& module_;
  std::vector<std::string> failures_;
};

}  // namespace

Status verify(const Module& module) {
  return Verifier(module).run();
}

}  // namespace abq::ir
