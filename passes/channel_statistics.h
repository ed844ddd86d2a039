// Collects PassContext's ChannelStatistics over any number of matrices.
#pragma once

#include <span>

#include "passes/pass.h"

namespace abq::passes {

// Sums over tokens until finish().
class ChannelCollector {
 public:
  // What TensorDevice::column_statistics gave for `rows` tokens, [3, K], always the same K.
  // InvalidArgument names a channel whose values are not all finite.
  Status add(std::span<const float> columns, int64_t rows);
  // Second moments become means.
  ChannelStatistics finish() &&;

 private:
  ChannelStatistics sums_;
};

// The statistics of x[:, c] / scales[c] from those of x; a negative scale turns the range around.
void divide_channels(ChannelStatistics& statistics, std::span<const float> scales);

// max over channels of max|x| over its median over channels; 0 when the median is 0.
double outlier_ratio(const ChannelStatistics& statistics);

}  // namespace abq::passes
