#include "passes/autodiff/tape.h"

#include <algorithm>
#include <unordered_set>

namespace abq::passes::autodiff {
namespace {

// Every node that the loss depends on and that wants a gradient, last computed first.
std::vector<Var> reverse_order(const Var& loss) {
  std::vector<Var> found = {loss};
  std::unordered_set<const Node*> seen = {loss.get()};
  for (size_t i = 0; i < found.size(); ++i) {
    const Var node = found[i];
    for (const Var& input : node->inputs)
      if (input->wants_gradient && seen.insert(input.get()).second) found.push_back(input);
  }
  std::sort(found.begin(), found.end(),
            [](const Var& a, const Var& b) { return a->order > b->order; });
  return found;
}

}  // namespace

void add_gradient(compute::TensorDevice& device, const Var& parameter, compute::Tensor& sum) {
  if (parameter->gradient.empty()) return;
  if (sum.empty()) {
    sum = parameter->gradient;
  } else {
    device.accumulate(sum, parameter->gradient, 1.0f);
  }
}

Var Tape::constant(compute::Tensor value) {
  auto node = std::make_shared<Node>();
  node->value = std::move(value);
  return node;
}

Var Tape::parameter(compute::Tensor value) {
  Var node = constant(std::move(value));
  node->wants_gradient = true;
  node->order = next_order_++;
  return node;
}

Var Tape::record(compute::Tensor value, std::vector<Var> inputs, Vjp vjp) {
  Var node = constant(std::move(value));
  node->wants_gradient = std::any_of(inputs.begin(), inputs.end(),
                                     [](const Var& input) { return input->wants_gradient; });
  if (!node->wants_gradient) return node;
  node->inputs = std::move(inputs);
  node->vjp = std::move(vjp);
  node->order = next_order_++;
  return node;
}

void Tape::backward(const Var& loss, float factor) {
  ABQ_CHECK(loss->value.size() == 1);
  backward_from(loss, device_.filled(1, 1, factor));
}

void Tape::backward_from(const Var& value, compute::Tensor gradient) {
  ABQ_CHECK(gradient.size() == value->value.size());
  if (!value->wants_gradient) return;
  std::vector<Var> nodes = reverse_order(value);
  value->gradient = std::move(gradient);
  for (Var& node : nodes) {
    if (!node->vjp || node->gradient.empty()) continue;  // a parameter, or nothing came back to it
    std::vector<compute::Tensor> gradients = node->vjp(node->gradient);
    ABQ_CHECK(gradients.size() == node->inputs.size());
    for (size_t i = 0; i < gradients.size(); ++i) {
      Node& input = *node->inputs[i];
      if (!input.wants_gradient || gradients[i].empty()) continue;
      ABQ_CHECK(gradients[i].size() == input.value.size());
      if (input.gradient.empty()) {
        input.gradient = std::move(gradients[i]);
      } else {
        device_.accumulate(input.gradient, gradients[i], 1.0f);
      }
    }
    node->gradient = {};
    node->vjp = {};
    node->inputs.clear();
    node.reset();
  }
}

}  // namespace abq::passes::autodiff
