// Every derivative of the reference tensor device against central differences in float64.
#include <cmath>
#include <functional>

#include "compute/reference/reference_tensor_device.h"
#include "compute_test_support.h"
#include "quantizer_model.h"
#include "tensor_device_checks.h"

namespace abq::compute {
namespace {

using Tensors = std::vector<Tensor>;

Tensor random_tensor(TensorDevice& device, int64_t rows, int64_t cols, uint64_t seed,
                     double scale = 1.0) {
  return device.upload(random_floats(rows * cols, seed, scale), rows, cols);
}

std::vector<double> values_of(const Tensor& x) {
  return {x.as<double>(), x.as<double>() + x.size()};
}

// Derivatives of sum(dy * forward(inputs)) by every element of the inputs, against `gradients`: one
// per input, empty where none is defined. A difference over 2h has an error of h^2 times the third
// derivative and of rounding over h; both are far below 1e-6 of the largest gradient.
void check_gradients(const Tensors& inputs, const Tensor& dy, const Tensors& gradients,
                     const std::function<std::vector<double>()>& forward) {
  constexpr double kStep = 1e-5;
  const auto loss = [&] {
    const std::vector<double> y = forward();
    REQUIRE(static_cast<int64_t>(y.size()) == dy.size());
    double sum = 0;
    for (size_t i = 0; i < y.size(); ++i)
      sum += y[i] * at(dy, static_cast<int64_t>(i));
    return sum;
  };
  REQUIRE(gradients.size() == inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (gradients[i].empty()) continue;
    CAPTURE(i);
    REQUIRE(gradients[i].rows() == inputs[i].rows());
    REQUIRE(gradients[i].cols() == inputs[i].cols());
    double largest = 0;
    for (int64_t e = 0; e < inputs[i].size(); ++e)
      largest = std::fmax(largest, std::abs(at(gradients[i], e)));
    WorstError error;
    for (int64_t e = 0; e < inputs[i].size(); ++e) {
      const double value = at(inputs[i], e);
      at(inputs[i], e) = value + kStep;
      const double above = loss();
      at(inputs[i], e) = value - kStep;
      const double below = loss();
      at(inputs[i], e) = value;
      error.add(at(gradients[i], e), (above - below) / (2 * kStep), 1e-6 * largest + 1e-12);
    }
    CHECK(error.value() <= 1.0);
    CHECK(largest > 0.0);
  }
}

TEST_CASE("gradients of elementwise functions are their differences") {
  ReferenceTensorDevice d;
  const Tensor a = random_tensor(d, 4, 5, 1), b = random_tensor(d, 4, 5, 2);
  const Tensor dy = random_tensor(d, 4, 5, 3);
  const TensorPair silu = d.silu_mul_backward(a, b, dy);
  check_gradients({a, b}, dy, {silu.first, silu.second},
                  [&] { return values_of(d.silu_mul(a, b)); });
  check_gradients({a}, dy, {d.sigmoid_backward(d.sigmoid(a), dy)},
                  [&] { return values_of(d.sigmoid(a)); });
  // Away from the pole, where differences are of use.
  const Tensor c = d.away_from_zero(a, 0.4f);
  check_gradients({c}, dy, {d.reciprocal_backward(d.reciprocal(c), dy)},
                  [&] { return values_of(d.reciprocal(c)); });
  check_gradients({c}, dy, {d.negative_log_abs_backward(c, dy)},
                  [&] { return values_of(d.negative_log_abs(c)); });
}

TEST_CASE("gradients of row functions are their differences") {
  ReferenceTensorDevice d;
  const Tensor x = random_tensor(d, 6, 8, 1), weight = random_tensor(d, 1, 8, 2);
  const Tensor dy = random_tensor(d, 6, 8, 3);
  const TensorPair norm = d.rms_norm_backward(x, weight, 1e-2f, dy);
  check_gradients({x, weight}, dy, {norm.first, norm.second},
                  [&] { return values_of(d.rms_norm(x, weight, 1e-2f)); });
  const Tensor frequencies = random_tensor(d, 1, 2, 4);
  check_gradients({x}, dy, {d.rope(dy, 4, 3, frequencies, true)},
                  [&] { return values_of(d.rope(x, 4, 3, frequencies, false)); });
  const Tensor wide = random_tensor(d, 2, 24, 6), dwide = random_tensor(d, 2, 24, 7);
  for (const bool transposed : {false, true}) {
    check_gradients({wide}, dwide, {d.hadamard(dwide, 12, !transposed)},
                    [&] { return values_of(d.hadamard(wide, 12, transposed)); });
  }
  const Tensor row = x.reshaped(1, 48), drow = random_tensor(d, 1, 144, 5);
  check_gradients({row}, drow, {d.repeat_backward(drow, 6, 3)},
                  [&] { return values_of(d.repeat(row, 6, 3)); });
}

TEST_CASE("gradients of products are products") {
  ReferenceTensorDevice d;
  const Tensor x = random_tensor(d, 4, 5, 1), w = random_tensor(d, 3, 5, 2);
  const Tensor dy = random_tensor(d, 4, 3, 3);
  check_gradients({x, w}, dy, {d.matmul(dy, w), d.transposed_matmul(dy, x)},
                  [&] { return values_of(d.linear(x, w)); });
}

TEST_CASE("gradients of attention are their differences") {
  ReferenceTensorDevice d;
  for (const int64_t window : {0, 3}) {
    const AttentionShape shape = {4, 2, 3, window};
    const int64_t context = 5, rows = 2 * context;
    const Tensor q = random_tensor(d, rows, 12, 1), k = random_tensor(d, rows, 6, 2);
    const Tensor v = random_tensor(d, rows, 6, 3);
    const Tensor p = d.attention_weights(shape, context, q, k);
    const Tensor dp = random_tensor(d, p.rows(), context, 4);
    const TensorPair weights = d.attention_weights_backward(shape, context, q, k, p, dp);
    check_gradients({q, k}, dp, {weights.first, weights.second},
                    [&] { return values_of(d.attention_weights(shape, context, q, k)); });
    const Tensor dy = random_tensor(d, rows, 12, 5);
    const TensorPair mix = d.attention_mix_backward(shape, context, p, v, dy);
    check_gradients({p, v}, dy, {mix.first, mix.second},
                    [&] { return values_of(d.attention_mix(shape, context, p, v)); });
  }
}

TEST_CASE("gradients of losses are their differences") {
  ReferenceTensorDevice d;
  const Tensor y = random_tensor(d, 6, 3, 1), target = random_tensor(d, 6, 3, 2);
  const Tensor dloss = d.filled(1, 1, -1.5f);
  check_gradients({y}, dloss, {d.mean_cosine_backward(y, target, dloss)},
                  [&] { return values_of(d.mean_cosine(y, target)); });
  check_gradients({y}, dloss, {d.mean_squared_error_backward(y, target, dloss)},
                  [&] { return values_of(d.mean_squared_error(y, target)); });
  // Rows of attention: softmax of something, so far from the floor.
  const AttentionShape shape = {2, 1, 4, 0};
  const auto rows = [&](uint64_t seed) {
    return d.attention_weights(shape, 3, random_tensor(d, 3, 8, seed),
                               random_tensor(d, 3, 4, seed + 1));
  };
  const Tensor p = rows(3), t = rows(5);
  check_gradients({p}, dloss, {d.symmetric_divergence_backward(p, t, dloss)},
                  [&] { return values_of(d.symmetric_divergence(p, t)); });
}

TEST_CASE("gradients of the divergence of logits are its differences") {
  ReferenceTensorDevice d;
  const Tensor y = random_tensor(d, 6, 9, 1, 3.0), target = random_tensor(d, 6, 9, 2, 3.0);
  const Tensor dloss = d.filled(1, 1, -1.5f);
  check_gradients({y}, dloss, {d.logit_divergence_backward(y, target, dloss)},
                  [&] { return values_of(d.logit_divergence(y, target)); });
  // KL((1/2, 1/2) || (3/4, 1/4)), with constants added to both rows.
  const Tensor even = d.filled(1, 2, 7.0f);
  const Tensor uneven = d.upload(std::vector<float>{std::log(3.0f) - 2.0f, -2.0f}, 1, 2);
  CHECK(at(d.logit_divergence(uneven, even), 0) ==
        doctest::Approx(0.5 * std::log(4.0 / 3.0)).epsilon(1e-6));
}

TEST_CASE("guarded losses have the gradient of their guard") {
  ReferenceTensorDevice d;
  const Tensor zero = d.filled(1, 3, 0.0f), target = random_tensor(d, 1, 3, 1, 1e-3);
  const Tensor dloss = d.filled(1, 1, 1.0f);
  const Tensor dy = d.mean_cosine_backward(zero, target, dloss);
  for (int64_t c = 0; c < 3; ++c)
    CHECK(at(dy, c) == doctest::Approx(at(target, c) * 1e8));
  // Row 1 sees two keys: one at the floor, which passes nothing.
  const std::vector<float> p = {1.0f, 0.0f, 1e-9f, 1.0f}, t = {1.0f, 0.0f, 0.25f, 0.75f};
  const Tensor dp = d.symmetric_divergence_backward(d.upload(p, 2, 2), d.upload(t, 2, 2), dloss);
  CHECK(at(dp, 0) == 0.0);
  CHECK(at(dp, 1) == 0.0);
  CHECK(at(dp, 2) == 0.0);
  CHECK(at(dp, 3) == doctest::Approx(0.5 * (std::log(1 / 0.75) + 0.25)));
}

TEST_CASE("gradients of the affine weight transform are its differences") {
  ReferenceTensorDevice d;
  const Tensor w = random_tensor(d, 4, 3, 1), dy = random_tensor(d, 4, 3, 2);
  const Tensor rows = random_tensor(d, 1, 4, 3), cols = random_tensor(d, 1, 3, 4);
  const Tensor a = random_tensor(d, 1, 4, 5), b = random_tensor(d, 1, 3, 6);
  const AffineGradient all = d.affine_weight_backward(w, rows, cols, a, b, dy, true);
  check_gradients({w, rows, cols, a, b}, dy, {all.w, all.row_scale, all.column_scale, all.a, all.b},
                  [&] { return values_of(d.affine_weight(w, rows, cols, a, b)); });
  const AffineGradient some = d.affine_weight_backward(w, {}, cols, {}, {}, dy, false);
  CHECK(some.w.empty());
  CHECK(some.row_scale.empty());
  CHECK(some.a.empty());
  check_gradients({cols}, dy, {some.column_scale},
                  [&] { return values_of(d.affine_weight(w, {}, cols, {}, {})); });
}

// w under a quantizer, its rounding frozen at the values of now.
std::function<std::vector<double>()> frozen(const Tensor& w, const Tensor& low, const Tensor& high,
                                            const WeightQuantizer& quantizer) {
  const int64_t length = quantizer.group_size == 0 ? w.cols() : quantizer.group_size;
  const auto clip = [](const Tensor& x, int64_t g) { return x.empty() ? 1.0 : at(x, g); };
  const auto group = [=](int64_t g) {
    return std::span<const double>(w.as<double>() + g * length, static_cast<size_t>(length));
  };
  std::vector<FrozenQuantizer> quantizers;
  for (int64_t g = 0; g < w.size() / length; ++g)
    quantizers.emplace_back(group(g), clip(low, g), clip(high, g), quantizer);
  return [=] {
    std::vector<double> all;
    for (size_t g = 0; g < quantizers.size(); ++g) {
      const int64_t i = static_cast<int64_t>(g);
      const std::vector<double> y = quantizers[g](group(i), clip(low, i), clip(high, i));
      all.insert(all.end(), y.begin(), y.end());
    }
    return all;
  };
}

TEST_CASE("straight-through gradients of tokens are those of frozen rounding") {
  ReferenceTensorDevice d;
  for (const int bits : {1, 2, 4, 8}) {
    CAPTURE(bits);
    const Tensor x = random_tensor(d, 6, 20, static_cast<uint64_t>(bits));
    for (int64_t c = 0; c < 20; ++c) {
      at(x, 0, c) = std::abs(at(x, 0, c));
      at(x, 1, c) = -std::abs(at(x, 1, c));
      at(x, 2, c) = 0.0;
    }
    const Tensor dy = random_tensor(d, 6, 20, 9);
    for (const int64_t segment : {20, 5}) {
      const WeightQuantizer quantizer{.levels = 1 << bits, .group_size = segment};
      const auto forward = frozen(x, {}, {}, quantizer);
      // At the point itself, frozen rounding is rounding.
      const std::vector<double> y = values_of(d.fake_quantize_tokens(x, bits, segment));
      const std::vector<double> model = forward();
      for (size_t i = 0; i < y.size(); ++i)
        CHECK(y[i] == doctest::Approx(model[i]).epsilon(1e-12));
      check_gradients({x}, dy, {d.fake_quantize_tokens_backward(x, bits, segment, dy)}, forward);
    }
  }
}

TEST_CASE("straight-through gradients of weights and clip factors are those of frozen rounding") {
  using Kind = WeightQuantizer::Kind;
  ReferenceTensorDevice d;
  const WeightQuantizer quantizers[] = {
      {Kind::kAsymmetric, 16, 15, 8, 0}, {Kind::kAsymmetric, 4, 3, 2, 5},
      {Kind::kAsymmetric, 5, 4, 2, 10},  {Kind::kSymmetric, 16, 15, 8, 0},
      {Kind::kSymmetric, 4, 3, 2, 5},    {Kind::kSymmetric, 5, 4, 2, 10}};
  for (const WeightQuantizer& quantizer : quantizers) {
    CAPTURE(quantizer.levels);
    const Tensor w = random_tensor(d, 5, 20, 1);
    for (int64_t c = 0; c < 20; ++c) {
      at(w, 0, c) = std::abs(at(w, 0, c));
      at(w, 1, c) = -std::abs(at(w, 1, c));
      at(w, 2, c) = 0.0;
    }
    const int64_t groups = quantizer.group_size == 0 ? 1 : 20 / quantizer.group_size;
    const Tensor low = d.sigmoid(random_tensor(d, 5, groups, 2));
    const Tensor high = d.sigmoid(random_tensor(d, 5, groups, 3));
    const Tensor dy = random_tensor(d, 5, 20, 4);
    const WeightGradient clipped = d.fake_quantize_weight_backward(w, low, high, quantizer, dy);
    check_gradients({w, low, high}, dy, {clipped.w, clipped.clip_low, clipped.clip_high},
                    frozen(w, low, high, quantizer));
    const WeightGradient plain = d.fake_quantize_weight_backward(w, {}, {}, quantizer, dy);
    CHECK(plain.clip_low.empty());
    CHECK(plain.clip_high.empty());
    check_gradients({w}, dy, {plain.w}, frozen(w, {}, {}, quantizer));
  }
}

TEST_CASE("binary weights pass gradients below their scale, and clip factors get none") {
  ReferenceTensorDevice d;
  const WeightQuantizer quantizer{WeightQuantizer::Kind::kBinary, 2, 1, 0, 10};
  const Tensor w = random_tensor(d, 4, 20, 1), dy = random_tensor(d, 4, 20, 2);
  const Tensor ones = d.filled(4, 2, 1.0f);
  const WeightGradient gradient = d.fake_quantize_weight_backward(w, ones, ones, quantizer, dy);
  check_gradients({w}, dy, {gradient.w}, frozen(w, {}, {}, quantizer));
  CHECK(values_of(gradient.clip_low) == std::vector<double>(8, 0.0));
  CHECK(values_of(gradient.clip_high) == std::vector<double>(8, 0.0));
}

// y = scale * number with the rounding of now: offsets that pass move the number's place, others do
// not.
TEST_CASE("straight-through gradients of rounded weights are those of frozen rounding") {
  using Kind = WeightQuantizer::Kind;
  ReferenceTensorDevice d;
  for (const WeightQuantizer& quantizer :
       {WeightQuantizer{.levels = 16}, WeightQuantizer{.levels = 4, .group_size = 5},
        WeightQuantizer{.kind = Kind::kBinary, .group_size = 10}}) {
    CAPTURE(quantizer.levels);
    const bool binary = quantizer.kind == Kind::kBinary;
    const int64_t length = quantizer.group_size == 0 ? 20 : quantizer.group_size;
    const int64_t groups = 20 / length;
    const Tensor offsets = random_tensor(d, 5, 20, 1, binary ? 1.0 : 0.4 * quantizer.levels);
    const Tensor scales = d.sigmoid(random_tensor(d, 5, groups, 2));
    const Tensor zeros = d.filled(5, groups, static_cast<float>(quantizer.levels / 2 - 1));
    const Tensor dy = random_tensor(d, 5, 20, 3);
    const Tensor point = d.copy(offsets);
    const auto frozen = [&] {
      std::vector<double> y;
      for (int64_t i = 0; i < offsets.size(); ++i) {
        const double low = -at(zeros, i / length), high = low + quantizer.levels - 1;
        const double rounded = std::nearbyint(at(point, i));
        double number = std::fmin(std::fmax(rounded, low), high);
        bool passes = number == rounded;
        if (binary) {
          number = at(point, i) >= 0 ? 1 : -1;
          passes = std::abs(at(point, i)) <= 1;
        }
        const double moved = passes ? at(offsets, i) - at(point, i) : 0.0;
        y.push_back(at(scales, i / length) * (number + moved));
      }
      return y;
    };
    CHECK(values_of(d.rounded_weight(offsets, scales, zeros, quantizer)) == frozen());
    const auto gradient = d.rounded_weight_backward(offsets, scales, zeros, quantizer, dy, true);
    check_gradients({offsets, scales}, dy, {gradient.offsets, gradient.scales}, frozen);
    CHECK(d.rounded_weight_backward(offsets, scales, zeros, quantizer, dy, false).offsets.empty());
  }
}

TEST_CASE(
    "the reference tensor device copies, rounds, shows NaN and survives a failed allocation") {
  ReferenceTensorDevice d;
  CHECK(d.name() == "reference");
  check_memory(d);
  check_shows_nan(d);
  check_rounded_weights(d);
  check_sticky_error(d);
}

}  // namespace
}  // namespace abq::compute
