#include "ir/interpreter.h"

#include <optional>

namespace abq::ir {

namespace {

// The values of a region while it runs.
class Frame {
 public:
  Frame(const Region& region, const Matrix& argument)
      : region_(region), owned_(region.values.size()), last_use_(region.values.size(), -1) {
    values_.assign(region.values.size(), nullptr);
    values_[static_cast<size_t>(region.arguments[0])] = &argument;
    for (size_t i = 0; i < region.nodes.size(); ++i) {
      for (const ValueId value : region.nodes[i].operands)
        last_use_[static_cast<size_t>(value)] = static_cast<int64_t>(i);
    }
    last_use_[static_cast<size_t>(region.results[0])] = static_cast<int64_t>(region.nodes.size());
  }

  std::vector<const Matrix*> operands(const Node& node) const {
    std::vector<const Matrix*> found;
    for (const ValueId value : node.operands)
      found.push_back(values_[static_cast<size_t>(value)]);
    return found;
  }

  const Matrix& define(ValueId value, Matrix matrix) {
    std::optional<Matrix>& slot = owned_[static_cast<size_t>(value)];
    slot = std::move(matrix);
    values_[static_cast<size_t>(value)] = &*slot;
    return *slot;
  }

  // Frees what node `index` was the last to read.
  void release_after(size_t index) {
    for (const ValueId value : region_.nodes[index].operands) {
      if (last_use_[static_cast<size_t>(value)] != static_cast<int64_t>(index)) continue;
      owned_[static_cast<size_t>(value)].reset();
    }
  }

  Matrix take_result() {
    const auto result = static_cast<size_t>(region_.results[0]);
    return owned_[result] ? std::move(*owned_[result]) : *values_[result];
  }

 private:
  const Region& region_;
  std::vector<const Matrix*> values_;         // null for weights
  std::vector<std::optional<Matrix>> owned_;  // those computed here
  std::vector<int64_t> last_use_;             // index of the last node that reads a value
};

Status check_input(const Region& region, const Matrix& x) {
  const Type& type = region.type(region.arguments[0]);
  const int64_t cols = type.element == ElementType::kI32 ? 1 : type.shape[1];
  if (x.rows < 1) return invalid_argument("{}: no tokens to run on", region.name);
  if (x.cols == cols) return {};
  return invalid_argument("{}: the input has {} columns, expected {}", region.name, x.cols, cols);
}

const Region* find_region(const Module& module, RegionKind kind) {
  for (const Region& region : module.regions) {
    if (region.kind == kind) return &region;
  }
  return nullptr;
}

}  // namespace

Result<Matrix> Interpreter::run(const Module& module, const Region& region, const Matrix& x) const {
  ABQ_RETURN_IF_ERROR(check_input(region, x));
  Frame frame(region, x);
  for (size_t i = 0; i < region.nodes.size(); ++i) {
    const Node& node = region.nodes[i];
    if (node.op == Op::kWeight) continue;
    const std::vector<const Matrix*> operands = frame.operands(node);
    if (input_observer_) input_observer_(node, *operands[0]);
    Result<Matrix> value = evaluate(module, region, node, operands, device_);
    if (!value.ok()) return value.status().with_context(node.name);
    const Matrix& defined = frame.define(node.result, std::move(*value));
    if (output_observer_) output_observer_(node, defined);
    frame.release_after(i);
  }
  return frame.take_result();
}

Result<Matrix> Interpreter::embed(const Module& module, std::span<const int32_t> tokens) const {
  const Region* region = find_region(module, RegionKind::kEmbed);
  if (region == nullptr) return invalid_argument("module {} has no embed region", module.name);
  Matrix ids = make_matrix(static_cast<int64_t>(tokens.size()), 1);
  for (size_t t = 0; t < tokens.size(); ++t)
    ids.data[t] = static_cast<float>(tokens[t]);
  return run(module, *region, ids);
}

Result<Matrix> Interpreter::logits(const Module& module, std::span<const int32_t> tokens) const {
  if (find_region(module, RegionKind::kHead) == nullptr) {
    return invalid_argument("module {} has no head region", module.name);
  }
  ABQ_ASSIGN_OR_RETURN(Matrix x, embed(module, tokens));
  for (const Region& region : module.regions) {
    if (region.kind == RegionKind::kEmbed) continue;
    ABQ_ASSIGN_OR_RETURN(x, run(module, region, x));
  }
  return x;
}

}  // namespace abq::ir
