#include "runtime/sampler.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace abq::runtime {

TEST_CASE("temperature zero takes the highest logit, the lowest id among equals") {
  Sampler sampler({});
  const std::vector<float> logits = {0.5f, 2.0f, 2.0f, 1.0f};
  CHECK(sampler.sample(logits, {}) == 1);
}

TEST_CASE("samples follow the softmax of the logits") {
  Sampler sampler({.temperature = 1.0f, .seed = 5});
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  std::array<int, 3> counts{};
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i)
    ++counts[static_cast<size_t>(sampler.sample(logits, {}))];
  // Four standard deviations of a binomial at these sizes are below 0.015.
  CHECK(counts[0] / double{kDraws} == doctest::Approx(0.5).epsilon(0.03));
  CHECK(counts[1] / double{kDraws} == doctest::Approx(0.3).epsilon(0.05));
  CHECK(counts[2] / double{kDraws} == doctest::Approx(0.2).epsilon(0.075));
}

TEST_CASE("a seed gives the same sequence again") {
  const std::vector<float> logits(50, 0.0f);
  Sampler a({.temperature = 0.7f, .seed = 9});
  Sampler b({.temperature = 0.7f, .seed = 9});
  Sampler c({.temperature = 0.7f, .seed = 10});
  bool differs = false;
  for (int i = 0; i < 32; ++i) {
    const int32_t id = a.sample(logits, {});
    CHECK(id == b.sample(logits, {}));
    differs = differs || id != c.sample(logits, {});
  }
  CHECK(differs);
}

TEST_CASE("top-k keeps the k best") {
  Sampler sampler({.temperature = 10.0f, .top_k = 2, .seed = 1});
  const std::vector<float> logits = {1.0f, 3.0f, 2.0f, 0.0f};
  for (int i = 0; i < 200; ++i) {
    const int32_t id = sampler.sample(logits, {});
    CHECK((id == 1 || id == 2));
  }
}

TEST_CASE("top-p keeps the smallest set that reaches the probability") {
  Sampler sampler({.temperature = 1.0f, .top_p = 0.75f, .seed = 1});
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  for (int i = 0; i < 200; ++i)
    CHECK(sampler.sample(logits, {}) != 2);
}

// draw_token() by a full sort.
int32_t draw_by_sorting(const std::vector<float>& logits, const TokenDraw& draw) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto logit = [&](int32_t id) { return logits[static_cast<size_t>(id)]; };
  std::stable_sort(ids.begin(), ids.end(),
                   [&](int32_t a, int32_t b) { return logit(a) > logit(b); });
  if (draw.top_k > 0 && ids.size() > static_cast<size_t>(draw.top_k))
    ids.resize(static_cast<size_t>(draw.top_k));
  const double top = logit(ids[0]);
  const auto weight = [&](int32_t id) { return std::exp((logit(id) - top) / draw.temperature); };
  double total = 0;
  for (const int32_t id : ids)
    total += weight(id);
  double kept = 0;
  size_t count = 0;
  while (count < ids.size() && kept < total * static_cast<double>(draw.top_p))
    kept += weight(ids[count++]);
  double left = draw.uniform * kept;
  for (size_t i = 0; i + 1 < count; ++i) {
    left -= weight(ids[i]);
    if (left < 0) return ids[i];
  }
  return ids[count - 1];
}

TEST_CASE("a draw that sorts as little as it can finds what sorting everything finds") {
  Random random(77);
  for (const size_t size : {1u, 2u, 100u, 129u, 5000u}) {
    std::vector<float> logits(size);
    for (float& logit : logits)
      logit = static_cast<float>(std::round(8 * random.normal()) / 4);  // many equals
    for (const float temperature : {0.1f, 1.0f, 30.0f}) {
      for (const int32_t top_k : {0, 1, 40, 1000}) {
        for (const float top_p : {0.3f, 0.95f, 1.0f}) {
          for (int i = 0; i < 4; ++i) {
            const TokenDraw draw{.uniform = random.uniform(),
                                 .temperature = temperature,
                                 .top_p = top_p,
                                 .top_k = top_k};
            CHECK(draw_token(logits, draw) == draw_by_sorting(logits, draw));
          }
        }
      }
    }
  }
}

TEST_CASE("the repetition penalty lowers tokens of the history, once each") {
  const std::vector<float> logits = {1.0f, 0.9f, -1.0f};
  Sampler sampler({.repetition_penalty = 1.2f});
  const std::vector<int32_t> history = {0, 0, 0};
  CHECK(sampler.sample(logits, history) == 1);
  // Penalised once 1.0 / 1.2 = 0.83 stays above 0.7.
  const std::vector<float> close = {1.0f, 0.7f};
  CHECK(sampler.sample(close, history) == 0);
}

TEST_CASE("sampling options out of range are refused by name") {
  CHECK(check_sampling_options({}).ok());
  const auto message = [](SamplingOptions options) {
    return check_sampling_options(options).message();
  };
  CHECK(message({.temperature = -1.0f}).find("temperature -1") != std::string::npos);
  CHECK(message({.temperature = NAN}).find("temperature") != std::string::npos);
  CHECK(message({.top_k = -2}).find("top-k -2") != std::string::npos);
  CHECK(message({.top_p = 0.0f}).find("top-p 0") != std::string::npos);
  CHECK(message({.top_p = 1.5f}).find("(0, 1]") != std::string::npos);
  CHECK(message({.repetition_penalty = 0.0f}).find("repetition penalty") != std::string::npos);
}

TEST_CASE("a penalty that carries a logit out of float32 leaves that token the only choice") {
  Sampler sampler({.temperature = 1.0f, .repetition_penalty = 1e-38f});
  const std::vector<float> logits = {1.0f, 50.0f, 2.0f};
  const std::vector<int32_t> history = {1};
  CHECK(sampler.sample(logits, history) == 1);
}

}  // namespace abq::runtime
