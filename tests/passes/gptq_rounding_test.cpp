#include "passes/gptq_rounding.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "compute/tensor_device.h"
#include "support/parallel.h"
#include "support/random.h"

namespace abq::passes {
namespace {

struct Case {
  int64_t n = 24;
  int64_t k = 192;
  std::vector<float> w;
  std::vector<double> hessian;
};

// Normal weights; inputs whose channels follow a few common directions, as a decoder's do.
Case make_case(uint64_t seed = 3, int64_t dead = -1) {
  Case c;
  Random random(seed);
  const auto normal = [&] { return static_cast<double>(random.normal()); };
  for (int64_t i = 0; i < c.n * c.k; ++i)
    c.w.push_back(static_cast<float>(normal()));
  constexpr int64_t kDirections = 12;
  std::vector<double> mix(static_cast<size_t>(kDirections * c.k));
  for (double& m : mix)
    m = normal();
  c.hessian.resize(static_cast<size_t>(c.k * c.k));
  std::vector<double> x(static_cast<size_t>(c.k));
  constexpr int64_t kTokens = 400;
  for (int64_t t = 0; t < kTokens; ++t) {
    for (double& v : x)
      v = 0.5 * normal();
    for (int64_t d = 0; d < kDirections; ++d) {
      const double along = normal();
      for (size_t i = 0; i < x.size(); ++i)
        x[i] += along * mix[static_cast<size_t>(d) * x.size() + i];
    }
    if (dead >= 0) x[static_cast<size_t>(dead)] = 0;
    for (size_t i = 0; i < x.size(); ++i)
      for (size_t j = 0; j < x.size(); ++j)
        c.hessian[i * x.size() + j] += 2.0 / kTokens * x[i] * x[j];
  }
  return c;
}

quant::WeightSpec spec_of(const std::string& scheme) {
  return quant::parse_scheme(scheme)->weights;
}

Result<RoundedLayer> round_on(compute::TensorDevice& device, const Case& c,
                              const quant::WeightSpec& spec, const ChosenGrids& grids = {}) {
  const auto rounder = device.create_rounder(c.k);
  std::vector<double> products = c.hessian;
  for (double& p : products)
    p *= 0.5;  // H of one token is twice its products
  rounder->add_products(products, 1);
  return round_layer(*rounder, {c.w.data(), c.n, c.k}, spec, grids);
}

RoundedLayer rounded(const Case& c, const quant::WeightSpec& spec, const ChosenGrids& grids = {}) {
  Result<RoundedLayer> layer = round_on(*compute::create_cpu_tensor_device(), c, spec, grids);
  REQUIRE_MESSAGE(layer.ok(), layer.status().to_string());
  return std::move(layer).value();
}

quant::QuantizedWeights nearest(const Case& c, const quant::WeightSpec& spec) {
  const MatrixView<const float> view(c.w.data(), c.n, c.k);
  return *quant::quantize_weights(view, spec, quant::search_clips(view, spec));
}

double loss(const Case& c, const quant::QuantizedWeights& weights) {
  std::vector<float> w(c.w.size());
  quant::dequantize_weights(weights, {w.data(), c.n, c.k});
  double sum = 0;
  const auto k = static_cast<size_t>(c.k);
  for (size_t r = 0; r < static_cast<size_t>(c.n); ++r)
    for (size_t i = 0; i < k; ++i)
      for (size_t j = 0; j < k; ++j)
        sum += static_cast<double>(w[r * k + i] - c.w[r * k + i]) * c.hessian[i * k + j] *
               static_cast<double>(w[r * k + j] - c.w[r * k + j]);
  return sum;
}

}  // namespace

TEST_CASE("gptq loses less than rounding to nearest at every kind of grid") {
  const Case c = make_case();
  for (const char* scheme : {"w4a8", "w2ba8", "w3a8-sym", "w2ba8-sym", "w1ba8", "w4a8-g32",
                             "w2a8-g64", "w1a8", "w8a8"}) {
    CAPTURE(std::string(scheme));
    const quant::WeightSpec spec = spec_of(scheme);
    const RoundedLayer layer = rounded(c, spec);
    CHECK(layer.report.damping == 0.01);
    CHECK(layer.report.loss < 0.7 * layer.report.nearest_loss);
    CHECK(layer.report.loss == doctest::Approx(loss(c, layer.weights)).epsilon(1e-4));
    if (spec.group_size == 0)
      CHECK(layer.report.nearest_loss == doctest::Approx(loss(c, nearest(c, spec))).epsilon(1e-4));
  }
}

TEST_CASE("grids of whole rows are those of clip search") {
  const Case c = make_case();
  const quant::WeightSpec spec = spec_of("w3a8");
  const RoundedLayer layer = rounded(c, spec);
  CHECK(layer.weights.scales == nearest(c, spec).scales);
  CHECK(layer.weights.zeros == nearest(c, spec).zeros);
  CHECK(layer.weights.codes != nearest(c, spec).codes);
}

TEST_CASE("a diagonal Hessian gives the codes of rounding to nearest, in any order of columns") {
  Case c = make_case();
  Random random(5);
  std::fill(c.hessian.begin(), c.hessian.end(), 0.0);
  for (int64_t i = 0; i < c.k; ++i)
    c.hessian[static_cast<size_t>(i * c.k + i)] =
        0.1 + std::fabs(static_cast<double>(random.normal()));
  for (const char* scheme : {"w4a8", "w2ba8-g64", "w1a8", "w3a8-g32-sym"}) {
    CAPTURE(std::string(scheme));
    const quant::WeightSpec spec = spec_of(scheme);
    const RoundedLayer layer = rounded(c, spec);
    CHECK(layer.weights.codes == nearest(c, spec).codes);
    CHECK(layer.weights.scales == nearest(c, spec).scales);
    CHECK(layer.weights.zeros == nearest(c, spec).zeros);
    CHECK(layer.report.loss == doctest::Approx(layer.report.nearest_loss).epsilon(1e-5));
  }
}

TEST_CASE("codes are those of the paper's unfactored updates in float64") {
  const Case c = make_case();
  for (const char* scheme : {"w3a8", "w2ba8", "w4a8-g32", "w2ba8-g64"}) {
    CAPTURE(std::string(scheme));
    const RoundedLayer layer = rounded(c, spec_of(scheme));
    const RoundedLayer plain =
        *round_on(*compute::create_reference_tensor_device(), c, spec_of(scheme));
    CHECK(layer.weights.codes == plain.weights.codes);
    CHECK(layer.weights.scales == plain.weights.scales);
    CHECK(layer.report.loss == doctest::Approx(plain.report.loss).epsilon(1e-6));
    CHECK(layer.report.nearest_loss == doctest::Approx(plain.report.nearest_loss).epsilon(1e-4));
  }
}

TEST_CASE("given clip factors and given grids take the place of the search") {
  const Case c = make_case();
  for (const char* scheme : {"w3a8", "w4a8-g64", "w2ba8-sym"}) {
    CAPTURE(std::string(scheme));
    const quant::WeightSpec spec = spec_of(scheme);
    const auto count = static_cast<size_t>(c.n * spec.groups(c.k));
    std::vector<quant::ClipRatio> clips;
    for (size_t i = 0; i < count; ++i)
      clips.push_back({0.5f + 0.01f * static_cast<float>(i % 40), 0.9f});
    const quant::QuantizedWeights grids =
        *quant::quantize_weights({c.w.data(), c.n, c.k}, spec, clips);

    const RoundedLayer fixed =
        rounded(c, spec, {.clips = {}, .scales = grids.scales, .zeros = grids.zeros});
    CHECK(fixed.weights.scales == grids.scales);
    CHECK(fixed.weights.zeros == grids.zeros);
    CHECK(fixed.report.loss < fixed.report.nearest_loss);
    CHECK(fixed.report.nearest_loss == doctest::Approx(loss(c, grids)).epsilon(1e-4));

    const RoundedLayer clipped = rounded(c, spec, {.clips = clips, .scales = {}, .zeros = {}});
    CHECK(clipped.report.nearest_loss == doctest::Approx(loss(c, grids)).epsilon(1e-4));
    CHECK(clipped.report.loss < clipped.report.nearest_loss);
    CHECK(clipped.clips[3].low == clips[3].low);
    CHECK(clipped.clips[3].high == 0.9f);
    CHECK((clipped.weights.scales == grids.scales) == (spec.group_size == 0));
    if (spec.group_size == 0) CHECK(clipped.weights.codes == fixed.weights.codes);
  }
}

TEST_CASE("grids of a wrong size or beyond their range are refused") {
  const Case c = make_case();
  const quant::WeightSpec spec = spec_of("w4a8");
  const auto refusal = [&](const ChosenGrids& grids) {
    return round_on(*compute::create_cpu_tensor_device(), c, spec, grids).status().message();
  };
  const std::vector<quant::ClipRatio> few(3);
  CHECK(refusal({.clips = few, .scales = {}, .zeros = {}}) ==
        "clip factors: expected 24, one for each row and group, got 3");
  std::vector<quant::ClipRatio> wide(24);
  wide[7].high = 1.5f;
  CHECK(refusal({.clips = wide, .scales = {}, .zeros = {}}) ==
        "clip factors: got (1, 1.5); expected values in (0, 1]");
  std::vector<float> scales(24, 0.1f);
  std::vector<uint8_t> zeros(24, 3);
  CHECK(refusal({.clips = {}, .scales = scales, .zeros = {}}) ==
        "grids: expected scales with zero points, or clip factors, or neither");
  zeros[2] = 16;
  CHECK(refusal({.clips = {}, .scales = scales, .zeros = zeros}).find("zero point 16") !=
        std::string::npos);
  Case broken = c;
  broken.w[5] = std::numeric_limits<float>::quiet_NaN();
  CHECK(round_on(*compute::create_cpu_tensor_device(), broken, spec).status().message() ==
        "row 0, column 5: weight is nan; only finite weights can be quantized");
}

TEST_CASE("an input that is always zero has its weights rounded to nearest and disturbs no other") {
  const int64_t dead = 7;
  const Case c = make_case(3, dead);
  const auto k = static_cast<size_t>(c.k);
  for (const char* scheme : {"w4a8", "w4a8-g32"}) {
    CAPTURE(std::string(scheme));
    const RoundedLayer layer = rounded(c, spec_of(scheme));
    CHECK(layer.report.loss < 0.7 * layer.report.nearest_loss);
    const auto groups = static_cast<size_t>(layer.weights.spec.groups(c.k));
    for (size_t r = 0; r < static_cast<size_t>(c.n); ++r) {
      const quant::AffineParams params{layer.weights.scales[r * groups],
                                       layer.weights.zeros[r * groups]};
      uint8_t code = 0;
      quant::quantize_values({&c.w[r * k + 7], 1}, layer.weights.spec, params, {&code, 1});
      CHECK(layer.weights.codes[r * k + 7] == code);
    }
  }
  Case silent = c;
  std::fill(silent.hessian.begin(), silent.hessian.end(), 0.0);
  CHECK(rounded(silent, spec_of("w4a8")).weights.codes == nearest(c, spec_of("w4a8")).codes);
}

TEST_CASE("a Hessian that is not positive definite is damped more, or refused") {
  Case c = make_case();
  c.hessian[1] = c.hessian[static_cast<size_t>(c.k)] = 3 * c.hessian[0];
  const RoundedLayer layer = rounded(c, spec_of("w4a8"));
  CHECK(layer.report.damping > 0.09);
  c.hessian[1] = c.hessian[static_cast<size_t>(c.k)] = 1e12;
  const Result<RoundedLayer> refused =
      round_on(*compute::create_cpu_tensor_device(), c, spec_of("w4a8"));
  REQUIRE(!refused.ok());
  CHECK(refused.status().code() == StatusCode::kInvalidArgument);
  CHECK(refused.status().message().find("not positive definite") != std::string::npos);
}

TEST_CASE("gptq gives the same codes on any number of threads") {
  const Case c = make_case();
  for (const char* scheme : {"w3a8", "w2ba8-g64"}) {
    set_num_threads(1);
    const RoundedLayer one = rounded(c, spec_of(scheme));
    set_num_threads(3);
    const RoundedLayer three = rounded(c, spec_of(scheme));
    set_num_threads(0);
    CHECK(one.weights.codes == three.weights.codes);
    CHECK(one.weights.scales == three.weights.scales);
    CHECK(one.report.loss == three.report.loss);
  }
}

}  // namespace abq::passes
