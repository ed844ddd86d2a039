#include "quant/distortion.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

using abq::quant::Distortion;

namespace {

Distortion measure(const std::vector<float>& reference, const std::vector<float>& approximation) {
  Distortion distortion;
  distortion.add(reference, approximation);
  return distortion;
}

}  // namespace

TEST_CASE("a known error gives known numbers") {
  const Distortion d = measure({3, 4, -1, 2}, {3, 3, 1, 0});
  CHECK(d.count() == 4);
  CHECK(d.sqnr_db() == doctest::Approx(10 * std::log10(30.0 / 9.0)));
  CHECK(d.cosine() == doctest::Approx(20.0 / std::sqrt(30.0 * 19.0)));
  CHECK(d.max_error() == 2.0);
  CHECK(d.mean_squared_error() == 2.25);
  CHECK(d.sign_flips() == 1);
  CHECK(d.rounded_to_zero() == 1);
}

TEST_CASE("a tenth of the amplitude as error is 20 dB") {
  CHECK(measure({1, -1, 1}, {1.1f, -1.1f, 0.9f}).sqnr_db() == doctest::Approx(20.0).epsilon(1e-5));
}

TEST_CASE("a perfect copy has infinite SQNR and cosine 1") {
  const Distortion d = measure({1, -2, 0}, {1, -2, 0});
  CHECK(std::isinf(d.sqnr_db()));
  CHECK(d.sqnr_db() > 0);
  CHECK(d.cosine() == doctest::Approx(1.0));
  CHECK(d.rounded_to_zero() == 0);
}

TEST_CASE("zero vectors have defined values") {
  CHECK(measure({0, 0}, {0, 0}).cosine() == 1.0);
  CHECK(std::isinf(measure({0, 0}, {0, 0}).sqnr_db()));
  CHECK(measure({0, 0}, {1, 0}).sqnr_db() == 0.0);
  CHECK(measure({0, 0}, {1, 0}).cosine() == 0.0);
  CHECK(measure({1, 0}, {0, 0}).cosine() == 0.0);
  CHECK(measure({1, 0}, {0, 0}).sqnr_db() == 0.0);
  CHECK(Distortion().mean_squared_error() == 0.0);
}

TEST_CASE("parts accumulate to the whole, and huge values do not overflow") {
  Distortion parts;
  parts.add(std::vector<float>{3, 4}, std::vector<float>{3, 3});
  parts.add(std::vector<float>{-1, 2}, std::vector<float>{1, 0});
  CHECK(parts.sqnr_db() == measure({3, 4, -1, 2}, {3, 3, 1, 0}).sqnr_db());
  const Distortion huge = measure({3e38f, 3e38f}, {2.7e38f, 3.3e38f});
  CHECK(huge.sqnr_db() == doctest::Approx(20.0).epsilon(1e-5));
}
