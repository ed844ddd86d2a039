#include "rounding_checks.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "compute_test_support.h"

namespace abq::compute {
namespace {

using Kind = WeightQuantizer::Kind;

constexpr int64_t kRows = 37;
constexpr int64_t kColumns = 300;  // three blocks, the last one short

// Tokens whose channels follow a few common directions, as a decoder's do, and differ in size.
std::vector<float> correlated_tokens(int64_t tokens, int64_t k, uint64_t seed) {
  constexpr int64_t kDirections = 12;
  Random random(seed);
  const std::vector<float> mix = random_floats(kDirections * k, seed + 1);
  std::vector<float> x(static_cast<size_t>(tokens * k));
  for (int64_t t = 0; t < tokens; ++t) {
    float along[kDirections];
    for (float& a : along)
      a = static_cast<float>(random.normal());
    for (int64_t i = 0; i < k; ++i) {
      float v = 0.5f * static_cast<float>(random.normal());
      for (int64_t d = 0; d < kDirections; ++d)
        v += along[d] * mix[static_cast<size_t>(d * k + i)];
      x[static_cast<size_t>(t * k + i)] = v * std::exp2(static_cast<float>(i % 7));
    }
  }
  return x;
}

std::unique_ptr<CompensatedRounder> rounder_for(TensorDevice& device, const std::vector<float>& x,
                                                int64_t k) {
  auto rounder = device.create_rounder(k);
  REQUIRE(rounder != nullptr);
  rounder->add(device.upload(x, std::ssize(x) / k, k));
  return rounder;
}

CompensatedWeights rounded(CompensatedRounder& rounder, const std::vector<float>& w, int64_t k,
                           const WeightQuantizer& quantizer, const RoundingGrids& grids = {}) {
  auto weights = rounder.round({w.data(), std::ssize(w) / k, k}, quantizer, grids);
  REQUIRE_MESSAGE(weights.ok(), weights.status().to_string());
  return std::move(weights).value();
}

template <class T>
int64_t differences(const std::vector<T>& a, const std::vector<T>& b) {
  REQUIRE(a.size() == b.size());
  int64_t count = 0;
  for (size_t i = 0; i < a.size(); ++i)
    count += a[i] == b[i] ? 0 : 1;
  return count;
}

// A value on a tie changes the codes behind it in its row, and in a tie of the clip search the
// grid: both are rare, and the loss hardly moves.
void check_close(const CompensatedWeights& a, const CompensatedWeights& b) {
  const auto part = [](int64_t count, size_t of) {
    return static_cast<double>(count) / static_cast<double>(of);
  };
  CHECK(part(differences(a.codes, b.codes), a.codes.size()) <= 0.03);
  CHECK(part(differences(a.zeros, b.zeros), a.zeros.size()) <= 0.03);
  CHECK(part(differences(a.clip_low, b.clip_low), a.zeros.size()) <= 0.03);
  CHECK(part(differences(a.clip_high, b.clip_high), a.zeros.size()) <= 0.03);
  CHECK(a.damping == b.damping);
  CHECK(a.loss == doctest::Approx(b.loss).epsilon(3e-3));
  CHECK(a.nearest_loss == doctest::Approx(b.nearest_loss).epsilon(3e-3));
}

struct GridKind {
  const char* name;
  WeightQuantizer quantizer;
};

const GridKind kGridKinds[] = {
    {"3 bits", {Kind::kAsymmetric, 8, 7, 4, 0}},
    {"8 bits", {Kind::kAsymmetric, 256, 255, 128, 0}},
    {"balanced 2 bits", {Kind::kAsymmetric, 5, 4, 2, 0}},
    {"symmetric", {Kind::kSymmetric, 16, 15, 8, 0}},
    {"symmetric and balanced", {Kind::kSymmetric, 5, 4, 2, 0}},
    {"binary", {Kind::kBinary, 2, 1, 1, 0}},
    {"a group for the whole row", {Kind::kAsymmetric, 16, 15, 8, kColumns}},
};
const GridKind kGroupedKinds[] = {
    {"groups of 32", {Kind::kAsymmetric, 16, 15, 8, 32}},
    {"groups of 64 and balance", {Kind::kAsymmetric, 5, 4, 2, 64}},
    {"groups of 128, symmetric", {Kind::kSymmetric, 8, 7, 4, 128}},
    {"groups of 32, binary", {Kind::kBinary, 2, 1, 1, 32}},
};

void match_reference(TensorDevice& device, int64_t k, std::span<const GridKind> kinds) {
  const auto reference = create_reference_tensor_device();
  const std::vector<float> x = correlated_tokens(700, k, 11);
  const std::vector<float> w = random_floats(kRows * k, 12);
  const auto rounder = rounder_for(device, x, k);
  const auto judge = rounder_for(*reference, x, k);
  for (const GridKind& kind : kinds) {
    CAPTURE(std::string(kind.name));
    const CompensatedWeights expected = rounded(*judge, w, k, kind.quantizer);
    const CompensatedWeights got = rounded(*rounder, w, k, kind.quantizer);
    check_close(got, expected);
    CHECK(got.loss < 0.8 * got.nearest_loss);

    // The grids of another search, and clip factors of one's own.
    const std::vector<float> low(expected.scales.size(), 0.7f);
    const std::vector<float> high(expected.scales.size(), 0.9f);
    const RoundingGrids clipped{{}, {}, low, high};
    check_close(rounded(*rounder, w, k, kind.quantizer, clipped),
                rounded(*judge, w, k, kind.quantizer, clipped));
    const RoundingGrids given{expected.scales, expected.zeros, {}, {}};
    const CompensatedWeights on_grids = rounded(*rounder, w, k, kind.quantizer, given);
    CHECK(on_grids.scales == expected.scales);
    CHECK(on_grids.zeros == expected.zeros);
    check_close(on_grids, rounded(*judge, w, k, kind.quantizer, given));
  }
}

}  // namespace

// H = (1 0.9, 0.9 1), damped to a diagonal of 1.01. 0.6 becomes 1; the second weight makes up for
// 0.4 by 0.4 * 0.9 / 1.01 = 0.356, and 0.244 becomes 0. Errors (0.4, -0.6) cost
// 0.16 - 0.432 + 0.36 = 0.088, those of rounding both up 0.608.
void check_rounding_by_hand(TensorDevice& device) {
  const auto rounder = device.create_rounder(2);
  REQUIRE(rounder != nullptr);
  const std::vector<double> products = {5.0, 4.5, 4.5, 5.0};
  rounder->add_products(products, 10);
  const std::vector<double> h = rounder->hessian();
  CHECK(h[0] == doctest::Approx(1.0));
  CHECK(h[1] == doctest::Approx(0.9));
  CHECK(h[2] == doctest::Approx(0.9));
  const std::vector<float> w = {0.6f, 0.6f};
  const std::vector<float> scales = {1.0f};
  const std::vector<uint8_t> zeros = {0};
  const CompensatedWeights weights =
      rounded(*rounder, w, 2, {Kind::kAsymmetric, 4, 3, 2, 0}, {scales, zeros, {}, {}});
  CHECK(weights.codes == std::vector<uint8_t>{1, 0});
  CHECK(weights.loss == doctest::Approx(0.088).epsilon(1e-5));
  CHECK(weights.nearest_loss == doctest::Approx(0.608).epsilon(1e-5));
  CHECK(weights.damping == 0.01);
  CHECK(weights.clip_low[0] == 1.0f);
}

void check_rounding_matches_reference(TensorDevice& device) {
  match_reference(device, kColumns, kGridKinds);
  match_reference(device, 256, kGroupedKinds);
}

void check_rounding_precision(TensorDevice& device) {
  const auto reference = create_reference_tensor_device();
  constexpr int64_t kTokens = 5000;
  constexpr int64_t k = 160;
  const std::vector<float> x = correlated_tokens(kTokens, k, 21);
  const std::vector<float> w = random_floats(kRows * k, 22);
  const auto rounder = rounder_for(device, x, k);
  const auto judge = rounder_for(*reference, x, k);
  const std::vector<double> h = rounder->hessian();
  const std::vector<double> exact = judge->hessian();
  double worst = 0;
  for (size_t i = 0; i < k; ++i)
    for (size_t j = 0; j < k; ++j)
      worst = std::max(worst, std::fabs(h[i * k + j] - exact[i * k + j]) /
                                  std::sqrt(exact[i * k + i] * exact[j * k + j]));
  // Float32 sums of up to 1024 tokens; the damping is 1e-2 of the mean.
  CHECK(worst < 2e-6);

  std::vector<double> products = exact;
  for (double& p : products)
    p *= kTokens / 2.0;
  const auto exactly = device.create_rounder(k);
  exactly->add_products(products, kTokens);
  const WeightQuantizer quantizer{Kind::kAsymmetric, 8, 7, 4, 0};
  const CompensatedWeights ours = rounded(*rounder, w, k, quantizer);
  const CompensatedWeights doubled = rounded(*exactly, w, k, quantizer);
  CHECK(differences(ours.codes, doubled.codes) == 0);
  CHECK(ours.loss == doctest::Approx(doubled.loss).epsilon(1e-5));
}

void check_rounding_of_bad_inputs(TensorDevice& device) {
  constexpr int64_t k = 32;
  const std::vector<float> w = random_floats(4 * k, 31);
  const WeightQuantizer quantizer{Kind::kAsymmetric, 16, 15, 8, 0};
  std::vector<float> x = correlated_tokens(200, k, 32);
  for (size_t t = 0; t < 200; ++t)
    x[t * k + 5] = 0;
  const CompensatedWeights dead = rounded(*rounder_for(device, x, k), w, k, quantizer);
  for (size_t r = 0; r < 4; ++r) {
    const float code = std::nearbyint(w[r * k + 5] / dead.scales[r]) + dead.zeros[r];
    CHECK(static_cast<float>(dead.codes[r * k + 5]) == std::clamp(code, 0.0f, 15.0f));
  }
  // Nothing seen: nothing to make up for.
  const CompensatedWeights blind = rounded(*device.create_rounder(k), w, k, quantizer);
  CHECK(blind.loss == doctest::Approx(0));
  for (size_t i = 0; i < w.size(); ++i) {
    const float code = std::nearbyint(w[i] / blind.scales[i / k]) + blind.zeros[i / k];
    CHECK(static_cast<float>(blind.codes[i]) == std::clamp(code, 0.0f, 15.0f));
  }

  std::vector<double> products(k * k);
  for (size_t i = 0; i < k; ++i)
    products[i * k + i] = 0.5;
  products[1] = products[k] = 1.5;  // H = I but for a pair of 3: positive from d = 10 on
  const auto singular = device.create_rounder(k);
  singular->add_products(products, 1);
  CHECK(rounded(*singular, w, k, quantizer).damping == doctest::Approx(10.0));
  products[1] = products[k] = 1e12;
  const auto hopeless = device.create_rounder(k);
  hopeless->add_products(products, 1);
  const auto refused = hopeless->round({w.data(), 4, k}, quantizer, {});
  REQUIRE(!refused.ok());
  CHECK(refused.status().code() == StatusCode::kInvalidArgument);
  CHECK(refused.status().message().find("not positive definite") != std::string::npos);

  x[3 * k + 7] = std::numeric_limits<float>::quiet_NaN();
  const auto broken = rounder_for(device, x, k)->round({w.data(), 4, k}, quantizer, {});
  REQUIRE(!broken.ok());
  CHECK(broken.status().message() ==
        "input channel 7 has NaN, Inf or squares beyond the range of floats; expected finite "
        "activations");
}

}  // namespace abq::compute
