// Collects PassContext's ChannelStatistics over any number of matrices.
#pragma once

#include "ir/interpreter.h"
#include "passes/pass.h"

namespace abq::passes {

// Sums over tokens until finish(); deterministic for any number of threads.
class ChannelCollector {
 public:
  // x[T, K], always the same K. InvalidArgument names a channel whose values are not all finite.
  Status add(const ir::Matrix& x);
  // Second moments become means.
  ChannelStatistics finish() &&;

 private:
  ChannelStatistics sums_;
};

// The statistics of x[:, c] / scales[c] from those of x; scales > 0.
void divide_channels(ChannelStatistics& statistics, std::span<const float> scales);

// max over channels of max|x| over its median over channels; 0 when the median is 0.
double outlier_ratio(const ChannelStatistics& statistics);

}  // namespace abq::passes
