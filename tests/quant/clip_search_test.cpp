#include <doctest/doctest.h>

#include <cmath>

#include "quant/affine.h"
#include "support/parallel.h"
#include "tests/quant/quant_test_util.h"

using namespace abq;
using namespace abq::quant;

namespace {

double loss_of(std::span<const float> w, const WeightSpec& spec, ClipRatio clip) {
  const AffineParams params = weight_params(w, spec, clip);
  std::vector<uint8_t> codes(w.size());
  std::vector<float> result(w.size());
  quantize_values(w, spec, params, codes);
  dequantize_values(codes, spec, params, result);
  double loss = 0;
  for (size_t i = 0; i < w.size(); ++i)
    loss += std::pow(std::fabs(static_cast<double>(result[i]) - static_cast<double>(w[i])), 2.4);
  return loss;
}

ClipRatio candidate(int i) {
  const float factor = static_cast<float>(40 - i) / 40.0f;
  return {factor, factor};
}

}  // namespace

TEST_CASE("the clip search finds the least 2.4-power error of its 27 factors") {
  const int64_t n = 4;
  const int64_t k = 1152;
  std::vector<float> w = normal_values(11, n * k, 0.02);
  for (size_t i = 0; i < w.size(); i += 331)
    w[i] *= 8.0f;
  for (const WeightSpec& spec : every_weight_spec({0, 128})) {
    const std::vector<ClipRatio> clips = search_clips(view(w, n), spec);
    const int64_t length = k / spec.groups(k);
    REQUIRE(static_cast<int64_t>(clips.size()) == n * spec.groups(k));
    for (size_t g = 0; g < clips.size(); ++g) {
      const std::span<const float> part(w.data() + static_cast<int64_t>(g) * length,
                                        static_cast<size_t>(length));
      double least = HUGE_VAL;
      for (int i = 0; i < 27; ++i)
        least = std::min(least, loss_of(part, spec, candidate(i)));
      CHECK(clips[g].low == clips[g].high);
      const double found = loss_of(part, spec, clips[g]);
      CHECK_MESSAGE(found <= least * (1 + 1e-5), describe(spec), " group ", g);
    }
  }
}

TEST_CASE("low bits clip normal weights, and clipping pays") {
  const std::vector<float> w = normal_values(12, 4096, 0.02);
  const ClipRatio clip = search_clips(view(w, 1), {3})[0];
  CHECK(clip.low < 0.9f);
  CHECK(clip.low >= 0.35f);
  CHECK(loss_of(w, {3}, clip) < 0.9 * loss_of(w, {3}, {}));
}

TEST_CASE("rows without anything to gain keep their range") {
  const std::vector<float> zeros(64, 0.0f);
  CHECK(search_clips(view(zeros, 1), {4})[0].high == 1.0f);
  const std::vector<float> levels = {0, 1, 2, 3, 0, 1, 2, 3};
  CHECK(search_clips(view(levels, 1), {2})[0].high == 1.0f);
  const std::vector<float> normal = normal_values(13, 64);
  CHECK(search_clips(view(normal, 1), {1})[0].high == 1.0f);
}

TEST_CASE("the search does not depend on the scale of the weights or on the thread count") {
  std::vector<float> w = normal_values(14, 6 * 256);
  const std::vector<ClipRatio> expected = search_clips(view(w, 6), {3, false, 64});
  set_num_threads(3);
  for (float& v : w)
    v *= 0x1p-20f;
  const std::vector<ClipRatio> tiny = search_clips(view(w, 6), {3, false, 64});
  set_num_threads(0);
  for (size_t i = 0; i < tiny.size(); ++i)
    CHECK(tiny[i].high == expected[i].high);
}
