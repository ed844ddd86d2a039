#include "quant/affine.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/parallel.h"
#include "tests/quant/quant_test_util.h"

using namespace abq;
using namespace abq::quant;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The definition of docs/quantization.md, written a second time and literally.
AffineParams params_by_definition(std::span<const float> w, const WeightSpec& spec,
                                  ClipRatio clip) {
  if (spec.binary()) {
    double sum = 0;
    for (const float v : w)
      sum += std::abs(static_cast<double>(v));
    const float scale = static_cast<float>(2 * sum / static_cast<double>(w.size()));
    return {std::max(scale, kMinScale), 1};
  }
  const float hi = std::max(clip.high * *std::max_element(w.begin(), w.end()), 0.0f);
  const float lo = std::min(clip.low * *std::min_element(w.begin(), w.end()), 0.0f);
  const float top = static_cast<float>(spec.levels() - 1);
  if (!spec.symmetric) {
    const float scale = std::max((hi - lo) / top, kMinScale);
    return {scale, static_cast<uint8_t>(std::clamp(std::nearbyint(-lo / scale), 0.0f, top))};
  }
  const float m = std::max(hi, -lo);
  const float steps = static_cast<float>(spec.balanced ? 1 << spec.bits : (1 << spec.bits) - 1);
  return {std::max(2 * m / steps, kMinScale), static_cast<uint8_t>(1 << (spec.bits - 1))};
}

uint8_t code_by_definition(float w, const WeightSpec& spec, AffineParams params) {
  if (spec.binary()) return w >= 0 ? 1 : 0;
  const float q = std::nearbyint(w / params.scale) + static_cast<float>(params.zero);
  return static_cast<uint8_t>(std::clamp(q, 0.0f, static_cast<float>(spec.levels() - 1)));
}

// Rows that stress a quantizer, by name.
struct Row {
  std::string name;
  std::vector<float> values;
};

std::vector<Row> extreme_rows(int64_t k) {
  const size_t count = static_cast<size_t>(k);
  std::vector<float> normal = normal_values(static_cast<uint64_t>(k), k, 0.02);
  std::vector<float> outlier = normal;
  outlier[count / 2] = 1000.0f;
  std::vector<float> positive = normal;
  std::vector<float> negative = normal;
  for (size_t i = 0; i < count; ++i) {
    positive[i] = std::fabs(normal[i]) + 1.0f;
    negative[i] = -positive[i];
  }
  return {{"normal", normal},
          {"outlier", outlier},
          {"positive", positive},
          {"negative", negative},
          {"all equal", std::vector<float>(count, 0.37f)},
          {"all equal and negative", std::vector<float>(count, -5.5f)},
          {"all zero", std::vector<float>(count, 0.0f)},
          {"negative zero", std::vector<float>(count, -0.0f)},
          {"denormal", std::vector<float>(count, 1e-42f)},
          {"huge", std::vector<float>(count, 1e38f)}};
}

std::vector<float> roundtrip(const std::vector<float>& w, const WeightSpec& spec) {
  const AffineParams params = weight_params(w, spec);
  std::vector<uint8_t> codes(w.size());
  std::vector<float> result(w.size());
  quantize_values(w, spec, params, codes);
  dequantize_values(codes, spec, params, result);
  return result;
}

}  // namespace

TEST_CASE("every weight quantizer equals its definition on every kind of row") {
  for (const int64_t k : {1, 2, 3, 15, 16, 17, 33, 128, 257}) {
    for (const Row& row : extreme_rows(k)) {
      for (const WeightSpec& spec : every_weight_spec({0})) {
        for (const ClipRatio clip : {ClipRatio{1, 1}, ClipRatio{0.5f, 0.875f}}) {
          const AffineParams params = weight_params(row.values, spec, clip);
          const AffineParams expected = params_by_definition(row.values, spec, clip);
          std::vector<uint8_t> codes(row.values.size());
          quantize_values(row.values, spec, params, codes);
          int wrong = 0;
          for (size_t i = 0; i < codes.size(); ++i)
            wrong += codes[i] != code_by_definition(row.values[i], spec, expected);
          const std::string subject = fmt::format("{} {} K={}", describe(spec), row.name, k);
          CHECK_MESSAGE(params.scale == expected.scale, subject);
          CHECK_MESSAGE(params.zero == expected.zero, subject);
          CHECK_MESSAGE(wrong == 0, subject);
        }
      }
    }
  }
}

TEST_CASE("codes and zero points fit the width, and the error is at most one step") {
  for (const Row& row : extreme_rows(100)) {
    for (const WeightSpec& spec : every_weight_spec({0})) {
      if (spec.binary()) continue;
      const AffineParams params = weight_params(row.values, spec);
      std::vector<uint8_t> codes(row.values.size());
      quantize_values(row.values, spec, params, codes);
      CHECK(params.zero < spec.levels());
      CHECK(*std::max_element(codes.begin(), codes.end()) < spec.levels());
      const std::vector<float> result = roundtrip(row.values, spec);
      // Half a step from rounding the value, and half from rounding the zero point.
      float worst = 0;
      for (size_t i = 0; i < result.size(); ++i)
        worst = std::max(worst, std::fabs(result[i] - row.values[i]));
      CHECK_MESSAGE(worst <= 1.00001f * params.scale, describe(spec), " ", row.name);
    }
  }
}

TEST_CASE("all-zero rows dequantize to exactly zero, binary ones to half the guarded scale") {
  for (const WeightSpec& spec : every_weight_spec({0})) {
    const std::vector<float> result = roundtrip(std::vector<float>(20, 0.0f), spec);
    const float expected = spec.binary() ? kMinScale / 2 : 0.0f;
    for (const float v : result)
      CHECK_MESSAGE(v == expected, describe(spec));
  }
}

TEST_CASE("an all-equal row survives to one rounding") {
  for (const float value : {0.37f, -5.5f, 3.0f}) {
    for (const WeightSpec& spec : every_weight_spec({0})) {
      if (spec.symmetric && !spec.balanced && !spec.binary()) continue;
      const std::vector<float> result = roundtrip(std::vector<float>(20, value), spec);
      CHECK_MESSAGE(result[0] == doctest::Approx(value).epsilon(1e-6), describe(spec));
    }
  }
}

TEST_CASE("balanced symmetric weights are exactly the multiples -2..2 and -1..1 of the scale") {
  const std::vector<float> w = {-2.0f, -1.0f, 0.0f, 1.0f, 2.0f};
  CHECK(roundtrip(w, {2, true, 0, true}) == w);
  CHECK(roundtrip({-3.0f, 0.0f, 3.0f}, {1, true, 0, true}) ==
        std::vector<float>{-3.0f, 0.0f, 3.0f});
}

TEST_CASE(
    "binary weights are plus and minus the mean magnitude, and clipping does not touch them") {
  const std::vector<float> w = {1.0f, -2.0f, 0.0f, -5.0f};
  CHECK(roundtrip(w, {1}) == std::vector<float>{2.0f, -2.0f, 2.0f, -2.0f});
  CHECK(roundtrip(w, {1, false, 0, true}) == roundtrip(w, {1}));
  CHECK(weight_params(w, {1}, {0.5f, 0.5f}).scale == weight_params(w, {1}).scale);
}

TEST_CASE("symmetric unbalanced weights put zero at the middle code") {
  const AffineParams params = weight_params(std::vector<float>{-1.5f, 7.5f}, {4, false, 0, true});
  CHECK(params.zero == 8);
  CHECK(params.scale == 1.0f);
}

TEST_CASE("halves round to even and the scale divides") {
  // Range 0..3 at 2 bits: scale 1, zero 0.
  const std::vector<float> w = {0.5f, 1.5f, 2.5f, 3.0f, 0.0f};
  std::vector<uint8_t> codes(w.size());
  quantize_values(w, {2}, weight_params(w, {2}), codes);
  CHECK(codes == std::vector<uint8_t>{0, 2, 2, 3, 0});
}

TEST_CASE("matrices are quantized per row and group, whatever the thread count") {
  const int64_t n = 5;
  const int64_t k = 384;
  const std::vector<float> w = normal_values(3, n * k);
  for (const WeightSpec& spec : every_weight_spec({0, 32, 64, 128})) {
    const int64_t groups = spec.groups(k);
    const int64_t length = k / groups;
    std::vector<ClipRatio> clips(static_cast<size_t>(n * groups));
    for (size_t i = 0; i < clips.size(); ++i)
      clips[i] = {0.5f + 0.01f * static_cast<float>(i % 50), 1.0f};
    set_num_threads(1);
    const QuantizedWeights one = *quantize_weights(view(w, n), spec, clips);
    set_num_threads(4);
    const QuantizedWeights four = *quantize_weights(view(w, n), spec, clips);
    set_num_threads(0);
    CHECK(one.codes == four.codes);
    CHECK(one.scales == four.scales);
    CHECK(one.zeros == four.zeros);

    std::vector<float> dequantized(w.size());
    dequantize_weights(one, view(dequantized, n));
    int wrong = 0;
    for (int64_t i = 0; i < n * groups; ++i) {
      const std::span<const float> part(w.data() + i * length, static_cast<size_t>(length));
      const size_t index = static_cast<size_t>(i);
      const AffineParams params = weight_params(part, spec, clips[index]);
      std::vector<uint8_t> codes(part.size());
      std::vector<float> values(part.size());
      quantize_values(part, spec, params, codes);
      dequantize_values(codes, spec, params, values);
      wrong += params.scale != one.scales[index] || params.zero != one.zeros[index];
      wrong += !std::equal(codes.begin(), codes.end(), one.codes.begin() + i * length);
      wrong += !std::equal(values.begin(), values.end(), dequantized.begin() + i * length);
    }
    CHECK_MESSAGE(wrong == 0, describe(spec));
  }
}

TEST_CASE("a view with a stride is quantized like a dense copy of it") {
  const std::vector<float> dense = normal_values(4, 3 * 32);
  std::vector<float> wide(3 * 40, kNan);
  for (size_t row = 0; row < 3; ++row)
    std::copy_n(dense.begin() + static_cast<int64_t>(row) * 32, 32,
                wide.begin() + static_cast<int64_t>(row) * 40);
  const MatrixView<const float> strided(wide.data(), 3, 32, 40);
  CHECK(quantize_weights(strided, {4})->codes == quantize_weights(view(dense, 3), {4})->codes);
  CHECK(quantize_tokens(strided, 8).codes == quantize_tokens(view(dense, 3), 8).codes);
}

TEST_CASE(
    "NaN and Inf in weights are refused by row and column, the first one whatever the order") {
  std::vector<float> w(4 * 32, 1.0f);
  w[3 * 32 + 1] = kInf;
  w[2 * 32 + 17] = kNan;
  const Status status = quantize_weights(view(w, 4), {4}).status();
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message() ==
        "row 2, column 17: weight is nan; only finite weights can be quantized");
  w[2 * 32 + 17] = -kInf;
  CHECK(quantize_weights(view(w, 4), {4}).status().message() ==
        "row 2, column 17: weight is -inf; only finite weights can be quantized");
}

TEST_CASE("a range beyond float32 is refused instead of giving infinite scales") {
  const std::vector<float> w = {1.0f, 1.0f, 3e38f, -3e38f};
  CHECK(quantize_weights(view(w, 2), {4}).status().message() ==
        "row 1, group 0: the range of the weights exceeds float32; rescale the layer");
}

TEST_CASE("specs and clip ratios that do not fit are refused") {
  const std::vector<float> w(2 * 96, 1.0f);
  CHECK(quantize_weights(view(w, 2), {4, false, 128}).status().message() ==
        "group size 128 does not divide K=96; use 32 or per-channel");
  CHECK(!quantize_weights(view(w, 2), {16}).ok());
  CHECK(quantize_weights(view(w, 2), {4}, std::vector<ClipRatio>(3)).status().message() ==
        "clip ratios: expected 2 (N=2 rows of 1 groups), got 3");
  for (const float bad : {0.0f, -1.0f, 1.5f, kNan}) {
    CHECK(!quantize_weights(view(w, 2), {4}, std::vector<ClipRatio>(2, {bad, 1.0f})).ok());
    CHECK(!quantize_weights(view(w, 2), {4}, std::vector<ClipRatio>(2, {1.0f, bad})).ok());
  }
}

TEST_CASE("tokens follow the asymmetric formula with 2^bits levels at every width") {
  for (int bits = 1; bits <= 8; ++bits) {
    for (const Row& row : extreme_rows(77)) {
      const AffineParams params = token_params(row.values, bits);
      const float top = static_cast<float>((1 << bits) - 1);
      const float hi = std::max(*std::max_element(row.values.begin(), row.values.end()), 0.0f);
      const float lo = std::min(*std::min_element(row.values.begin(), row.values.end()), 0.0f);
      CHECK(params.scale == std::max((hi - lo) / top, kMinScale));
      CHECK(static_cast<float>(params.zero) ==
            std::clamp(std::nearbyint(-lo / params.scale), 0.0f, top));
      const QuantizedTokens q = quantize_tokens(view(row.values, 1), bits);
      std::vector<float> fake = row.values;
      fake_quantize_tokens(view(fake, 1), bits);
      int wrong = 0;
      for (size_t i = 0; i < fake.size(); ++i) {
        const float code = std::clamp(
            std::nearbyint(row.values[i] / params.scale) + static_cast<float>(params.zero), 0.0f,
            top);
        wrong += static_cast<float>(q.codes[i]) != code;
        wrong += fake[i] != params.scale * (code - static_cast<float>(params.zero));
      }
      CHECK_MESSAGE(wrong == 0, row.name, " at ", bits, " bits");
      CHECK(q.scales[0] == params.scale);
      CHECK(q.zeros[0] == params.zero);
    }
  }
}

TEST_CASE("tokens with NaN or Inf have defined codes") {
  const std::vector<float> with_nan = {kNan, 1.0f, 0.0f, kNan};
  const QuantizedTokens q = quantize_tokens(view(with_nan, 1), 8);
  CHECK(q.scales[0] == 1.0f / 255.0f);
  CHECK(q.codes[0] == 0);
  CHECK(q.codes[1] == 255);
  for (const float infinite : {kInf, -kInf}) {
    const QuantizedTokens p = quantize_tokens(view(std::vector<float>{infinite, 1.0f}, 1), 4);
    CHECK(p.scales[0] == kInf);
    CHECK(p.codes == std::vector<uint8_t>{0, 0});
  }
  CHECK(quantize_tokens(view(std::vector<float>(4, kNan), 1), 8).codes ==
        std::vector<uint8_t>(4, 0));
}
