#include "quant/divergence.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "support/parallel.h"
#include "support/status.h"

namespace abq::quant {

Divergence compare_logits(std::span<const float> reference, std::span<const float> other) {
  ABQ_CHECK(reference.size() == other.size() && !reference.empty());
  const auto top_r = std::max_element(reference.begin(), reference.end());
  const auto top_o = std::max_element(other.begin(), other.end());
  double sum_r = 0;
  double sum_o = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    sum_r += std::exp(static_cast<double>(reference[i] - *top_r));
    sum_o += std::exp(static_cast<double>(other[i] - *top_o));
  }
  const double log_r = std::log(sum_r) + static_cast<double>(*top_r);
  const double log_o = std::log(sum_o) + static_cast<double>(*top_o);
  Divergence result;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double log_p = static_cast<double>(reference[i]) - log_r;
    result.kl += std::exp(log_p) * (log_p - (static_cast<double>(other[i]) - log_o));
  }
  result.same_top = (top_r - reference.begin()) == (top_o - other.begin()) ? 1 : 0;
  result.positions = 1;
  return result;
}

Divergence compare_logits(MatrixView<const float> reference, MatrixView<const float> other) {
  ABQ_CHECK(reference.rows == other.rows && reference.cols == other.cols);
  std::vector<Divergence> rows(static_cast<size_t>(reference.rows));
  parallel_for(reference.rows, [&](int64_t r) {
    rows[static_cast<size_t>(r)] = compare_logits(reference.row_span(r), other.row_span(r));
  });
  Divergence total;
  for (const Divergence& row : rows)
    total.add(row);
  return total;
}

}  // namespace abq::quant
