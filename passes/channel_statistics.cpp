#include "passes/channel_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace abq::passes {

Status ChannelCollector::add(std::span<const float> columns, int64_t rows) {
  const size_t cols = columns.size() / 3;
  ABQ_CHECK(cols * 3 == columns.size());
  if (sums_.tokens == 0) {
    sums_.max_abs.assign(cols, 0.0f);
    sums_.min.assign(cols, std::numeric_limits<float>::infinity());
    sums_.max.assign(cols, -std::numeric_limits<float>::infinity());
    sums_.second_moment.assign(cols, 0.0);
  }
  ABQ_CHECK(sums_.max_abs.size() == cols);
  for (size_t c = 0; c < cols; ++c) {
    const float squares = columns[2 * cols + c];
    if (!std::isfinite(squares))
      return invalid_argument("channel {} has NaN, Inf or squares beyond float32", c);
    sums_.min[c] = std::min(sums_.min[c], columns[c]);
    sums_.max[c] = std::max(sums_.max[c], columns[cols + c]);
    sums_.max_abs[c] = std::max(std::fabs(sums_.min[c]), std::fabs(sums_.max[c]));
    sums_.second_moment[c] += static_cast<double>(squares);
  }
  sums_.tokens += rows;
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
    statistics.max_abs[c] /= std::fabs(scales[c]);
    statistics.min[c] /= scales[c];
    statistics.max[c] /= scales[c];
    if (scales[c] < 0) std::swap(statistics.min[c], statistics.max[c]);
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
