#include <fmt/format.h>

#include "tensor_cases.h"

namespace abq::compute {
namespace {

using Tensors = std::span<const Tensor>;
using Results = std::vector<Tensor>;

// Logits of spread 3, and others that differ from them by normal numbers times `distance`, in each
// row by a constant more.
std::vector<HostMatrix> logits(int64_t rows, int64_t cols, float distance) {
  const HostMatrix target = random_matrix(rows, cols, 1, 3.0);
  HostMatrix y = random_matrix(rows, cols, 2);
  for (size_t i = 0; i < y.values.size(); ++i) {
    const float constant = static_cast<float>(static_cast<int64_t>(i) / cols % 3);
    y.values[i] = target.values[i] + distance * (y.values[i] + constant);
  }
  return {y, target, HostMatrix{1, 1, {-1.7f}}};
}

void add_logit_cases(std::vector<TensorCase>& cases, int64_t rows, int64_t cols, float distance) {
  using D = TensorDevice&;
  const std::string name = fmt::format(" [{}, {}] at {}", rows, cols, distance);
  const std::vector<HostMatrix> inputs = logits(rows, cols, distance);
  // Terms of one sign, each with the errors of an exponential whose argument is some units.
  cases.push_back({"logit_divergence" + name, inputs, steps_of_sum(cols) + 8,
                   [](D d, Tensors t) -> Results { return {d.logit_divergence(t[0], t[1])}; }});
  // Two sums of exponentials move all gradients of a row by some steps of the probabilities, whose
  // difference the gradient is.
  const double shrunk = distance < 1 ? 1 / static_cast<double>(distance) : 1.0;
  cases.push_back(
      {"logit_divergence_backward" + name, inputs, steps_of_sum(cols) + 8 * shrunk,
       [](D d, Tensors t) -> Results { return {d.logit_divergence_backward(t[0], t[1], t[2])}; }});
}

}  // namespace

std::vector<TensorCase> logit_cases() {
  std::vector<TensorCase> cases;
  std::vector<std::pair<int64_t, int64_t>> shapes = long_row_shapes();
  // Narrow rows, and vocabularies of Llama 2 and 3.
  shapes.insert(shapes.begin(), {{1, 1}, {1, 3}, {7, 100}, {90, 517}, {2, 32000}, {1, 128256}});
  for (const auto& [rows, cols] : shapes) {
    for (const float distance : {3.0f, 0.3f, 1e-3f}) {
      if (cols == 1 && distance != 3.0f) continue;  // one column: nothing to differ in
      const size_t first = cases.size();
      add_logit_cases(cases, rows, cols, distance);
      if (cols == 100) add_unaligned(cases, first);
    }
  }
  return cases;
}

}  // namespace abq::compute
