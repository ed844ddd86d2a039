#include <cstring>

#include "ir/lexer.h"
#include "ir/text.h"
#include "support/float16.h"

namespace abq::ir {

namespace {

// Larger tensors print as digests.
constexpr int64_t kMaxPrintedElements = 16;

std::string sigil_name(char sigil, std::string_view name) {
  return sigil + (is_plain_name(name) ? std::string(name) : quote(name));
}

// Shortest text that reads back as the same double, and as a float, not an integer.
std::string float_text(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".einf") == std::string::npos) text += ".0";
  return text;
}

std::string attribute_text(const AttributeValue& value) {
  if (const auto* integer = std::get_if<int64_t>(&value)) return fmt::format("{}", *integer);
  if (const auto* real = std::get_if<double>(&value)) return float_text(*real);
  return quote(std::get<std::string>(value));
}

std::string attributes_text(const std::map<std::string, AttributeValue>& attributes,
                            std::string_view hidden = {}) {
  std::string text;
  for (const auto& [key, value] : attributes) {
    if (key == hidden) continue;
    text += fmt::format("{}{} = {}", text.empty() ? " {" : ", ", key, attribute_text(value));
  }
  return text.empty() ? text : text + '}';
}

template <class T>
T element(std::span<const std::byte> bytes, int64_t index) {
  T value;
  std::memcpy(&value, bytes.data() + static_cast<size_t>(index) * sizeof(T), sizeof(T));
  return value;
}

// Shortest decimal that reads back as the same element.
std::string element_text(ElementType type, std::span<const std::byte> bytes, int64_t index) {
  switch (type) {
    case ElementType::kF32:
      return fmt::format("{}", element<float>(bytes, index));
    case ElementType::kF16:
      return fmt::format("{}", f16_to_float(element<uint16_t>(bytes, index)));
    case ElementType::kBF16:
      return fmt::format("{}", bf16_to_float(element<uint16_t>(bytes, index)));
    case ElementType::kI32:
      return fmt::format("{}", element<int32_t>(bytes, index));
    default:
      return fmt::format("{}", element<uint8_t>(bytes, index));
  }
}

bool prints_values(const Tensor& tensor) {
  return tensor.data.present() && !is_packed(tensor.type.element) &&
         element_count(tensor.type) <= kMaxPrintedElements &&
         static_cast<int64_t>(tensor.data.bytes().size()) == byte_size(tensor.type);
}

std::string tensor_text(const std::string& name, const Tensor& tensor) {
  std::string text = fmt::format("tensor {} : {}", sigil_name('@', name), to_string(tensor.type));
  if (!prints_values(tensor)) {
    const std::string digest = tensor_digest(tensor);
    return digest.empty() ? text : text + " digest " + quote(digest);
  }
  text += " = [";
  for (int64_t i = 0; i < element_count(tensor.type); ++i) {
    if (i > 0) text += ", ";
    text += element_text(tensor.type.element, tensor.data.bytes(), i);
  }
  return text + ']';
}

// Printing must work on modules that the verifier refuses: it is how one looks at them.
std::string value_text(const Region& region, ValueId value) {
  if (value < 0 || static_cast<size_t>(value) >= region.values.size()) {
    return sigil_name('%', fmt::format("no value {}", value));
  }
  return sigil_name('%', region.values[static_cast<size_t>(value)].name);
}

std::string value_list(const Region& region, const std::vector<ValueId>& values, bool with_types) {
  std::string text;
  for (const ValueId value : values) {
    if (!text.empty()) text += ", ";
    text += value_text(region, value);
    if (with_types) text += ": " + to_string(region.type(value));
  }
  return text;
}

std::string node_text(const Region& region, const Node& node) {
  std::string text =
      fmt::format("  {} = {} ", value_text(region, node.result), op_info(node.op).mnemonic);
  if (node.op == Op::kWeight) {
    const auto found = node.attributes.find("tensor");
    const std::string* name =
        found == node.attributes.end() ? nullptr : std::get_if<std::string>(&found->second);
    text +=
        sigil_name('@', name == nullptr ? "" : *name) + attributes_text(node.attributes, "tensor");
  } else {
    text += quote(node.name);
    if (!node.operands.empty()) text += ' ' + value_list(region, node.operands, false);
    text += attributes_text(node.attributes);
  }
  return text + " : " + to_string(region.type(node.result)) + '\n';
}

std::string region_text(const Region& region) {
  std::string text = fmt::format(
      "{} {}({}) -> ({}) {{\n", region_kind_name(region.kind), sigil_name('@', region.name),
      value_list(region, region.arguments, true), value_list(region, region.results, false));
  for (const Node& node : region.nodes)
    text += node_text(region, node);
  return text + "}\n";
}

}  // namespace

std::string print(const Module& module) {
  std::string text =
      "module " + sigil_name('@', module.name) + attributes_text(module.attributes) + '\n';
  if (!module.tensors.empty()) text += '\n';
  for (const auto& [name, tensor] : module.tensors)
    text += tensor_text(name, tensor) + '\n';
  for (const Region& region : module.regions)
    text += '\n' + region_text(region);
  return text;
}

}  // namespace abq::ir
