#include "passes/channel_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/parallel.h"

namespace abq::passes {
namespace {

// Columns of one parallel piece: a few cache lines of each row.
constexpr size_t kPieceColumns = 128;

}  // namespace

Status ChannelCollector::add(const ir::Matrix& x) {
  const auto cols = static_cast<size_t>(x.cols);
  if (sums_.tokens == 0) {
    sums_.max_abs.assign(cols, 0.0f);
    sums_.min.assign(cols, std::numeric_limits<float>::infinity());
    sums_.max.assign(cols, -std::numeric_limits<float>::infinity());
    sums_.second_moment.assign(cols, 0.0);
  }
  ABQ_CHECK(sums_.max_abs.size() == cols);
  const size_t pieces = (cols + kPieceColumns - 1) / kPieceColumns;
  parallel_for(static_cast<int64_t>(pieces), [&](int64_t piece) {
    const size_t begin = static_cast<size_t>(piece) * kPieceColumns;
    const size_t end = std::min(begin + kPieceColumns, cols);
    for (int64_t r = 0; r < x.rows; ++r) {
      const float* row = x.data.data() + static_cast<size_t>(r) * cols;
      for (size_t c = begin; c < end; ++c) {
        const float v = row[c];
        sums_.min[c] = v < sums_.min[c] ? v : sums_.min[c];
        sums_.max[c] = v > sums_.max[c] ? v : sums_.max[c];
        sums_.second_moment[c] += static_cast<double>(v) * static_cast<double>(v);
      }
    }
    for (size_t c = begin; c < end; ++c)
      sums_.max_abs[c] = std::max(std::fabs(sums_.min[c]), std::fabs(sums_.max[c]));
  });
  sums_.tokens += x.rows;
  // Squares of floats cannot overflow a double, so the sum is finite exactly when all values are.
  for (size_t c = 0; c < cols; ++c)
    if (!std::isfinite(sums_.second_moment[c]))
      return invalid_argument("channel {} has NaN or Inf; expected finite activations", c);
  return {};
}

ChannelStatistics ChannelCollector::finish() && {
  for (double& moment : sums_.second_moment)
    moment /= static_cast<double>(sums_.tokens);
  return std::move(sums_);
}

void divide_channels(ChannelStatistics& statistics, std::span<const float> scales) {
  ABQ_CHECK(statistics.max_abs.size() == scales.size());
  for (size_t c = 0; c < scales.size(); ++c) {
    statistics.max_abs[c] /= scales[c];
    statistics.min[c] /= scales[c];
    statistics.max[c] /= scales[c];
    statistics.second_moment[c] /= static_cast<double>(scales[c]) * static_cast<double>(scales[c]);
  }
}

double outlier_ratio(const ChannelStatistics& statistics) {
  std::vector<float> sorted = statistics.max_abs;
  if (sorted.empty()) return 0;
  std::sort(sorted.begin(), sorted.end());
  const double median = sorted[sorted.size() / 2];
  return median > 0 ? sorted.back() / median : 0;
}

}  // namespace abq::passes
