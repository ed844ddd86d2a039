#include "passes/channel_statistics.h"

#include <doctest/doctest.h>

#include <limits>
#include <vector>

namespace abq::passes {

TEST_CASE("statistics of several matrices are those of all their tokens") {
  ChannelCollector collector;
  REQUIRE(collector.add(std::vector<float>{1, -4, 3, 2, 10, 20}, 2).ok());
  REQUIRE(collector.add(std::vector<float>{-2, 0, -2, 0, 4, 0}, 1).ok());
  const ChannelStatistics statistics = std::move(collector).finish();
  CHECK(statistics.tokens == 3);
  CHECK(statistics.max_abs == std::vector<float>{3, 4});
  CHECK(statistics.min == std::vector<float>{-2, -4});
  CHECK(statistics.max == std::vector<float>{3, 2});
  CHECK(statistics.second_moment[0] == doctest::Approx(14.0 / 3));
  CHECK(statistics.second_moment[1] == doctest::Approx(20.0 / 3));
}

TEST_CASE("NaN and Inf are refused with their channel") {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    ChannelCollector collector;
    const Status status = collector.add(std::vector<float>{1, 2, 1, 2, 5, bad}, 2);
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(status.message() == "channel 1 has NaN, Inf or squares beyond float32");
  }
}

TEST_CASE("dividing channels gives the statistics of the divided input") {
  ChannelCollector collector;
  REQUIRE(collector.add(std::vector<float>{1, -4, 3, 2, 10, 20}, 2).ok());
  ChannelStatistics statistics = std::move(collector).finish();
  divide_channels(statistics, std::vector<float>{2, 4});
  CHECK(statistics.max_abs == std::vector<float>{1.5f, 1});
  CHECK(statistics.min == std::vector<float>{0.5f, -1});
  CHECK(statistics.second_moment[1] == doctest::Approx(10.0 / 16));
}

TEST_CASE("the outlier ratio is the largest channel over the median one") {
  ChannelStatistics statistics;
  statistics.max_abs = {1, 2, 40, 2, 3};
  CHECK(outlier_ratio(statistics) == doctest::Approx(20));
  statistics.max_abs = {0, 0, 1};
  CHECK(outlier_ratio(statistics) == 0);
}

}  // namespace abq::passes
