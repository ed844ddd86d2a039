// Tokens drawn on the device against the definition in float64.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/runtime/cuda/tokens_test_support.h"

namespace abq::runtime::cuda {
namespace {

// Weights are float32 exponentials of float32 quotients up to 28: 28 * 2^-24 and a few more
// roundings; whole 2^-40ths add less.
constexpr double kRelative = 4e-6;

// Whether `id` may be what `draw` finds: its place in the cumulated weights, widened by what
// rounding moves the ends of all weights, covers uniform * (weight of what is kept).
bool may_be_drawn(const float* logits, int columns, const TokenDraw& draw, int32_t id) {
  std::vector<int32_t> ids(static_cast<size_t>(columns));
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  if (draw.top_k > 0 && columns > draw.top_k) ids.resize(static_cast<size_t>(draw.top_k));
  const auto weight = [&](int32_t i) {
    return std::exp((static_cast<double>(logits[i]) - logits[ids[0]]) / draw.temperature);
  };
  double total = 0;
  for (const int32_t i : ids)
    total += weight(i);
  const double slack = kRelative * total;
  // The set that is kept, at its smallest and at its largest.
  double least = 0;
  double most = 0;
  const double limit = static_cast<double>(draw.top_p) * total;
  for (const int32_t i : ids) {
    if (least < limit - slack) least += weight(i);
    if (most < limit + slack) most += weight(i);
  }
  double before = 0;
  for (const int32_t i : ids) {
    if (i == id)
      return before <= draw.uniform * most + slack &&
             draw.uniform * least <= before + weight(i) + slack && before <= most + slack;
    before += weight(i);
  }
  return false;
}

void check_draws(const HostRows& x, const std::vector<TokenDraw>& draws) {
  const Stream stream;
  DeviceRows device(x);
  DeviceArray<int32_t> ids = poisoned<int32_t>(x.m);
  const DeviceArray<TokenDraw> device_draws = on_device(draws);
  require_ok(draw_tokens(device.values(), device_draws.data(), ids.data(), stream));
  stream.wait();
  const std::vector<int32_t> got = require_value(ids.download());
  require_ok(draw_tokens(device.values(), device_draws.data(), ids.data(), stream));
  stream.wait();
  CHECK(got == require_value(ids.download()));
  for (int r = 0; r < x.m; ++r) {
    const TokenDraw& draw = draws[static_cast<size_t>(r)];
    const int32_t id = got[static_cast<size_t>(r)];
    const bool right = draw.temperature > 0
                           ? may_be_drawn(x.row(r), x.columns, draw, id)
                           : id == std::max_element(x.row(r), x.row(r) + x.columns) - x.row(r);
    CHECK_MESSAGE(right, "row " << r << " of " << x.columns << ": token " << id
                                << " at temperature " << draw.temperature << ", top-k "
                                << draw.top_k << ", top-p " << draw.top_p << ", uniform "
                                << draw.uniform);
  }
}

std::vector<TokenDraw> all_draws(Random& random) {
  std::vector<TokenDraw> draws = {{}};
  for (const float temperature : {0.05f, 0.7f, 40.0f}) {
    for (const int32_t top_k : {0, 1, 50, 20000}) {
      for (const float top_p : {0.2f, 0.95f, 1.0f}) {
        draws.push_back({.uniform = random.uniform(),
                         .temperature = temperature,
                         .top_p = top_p,
                         .top_k = top_k});
      }
    }
  }
  draws.push_back({.uniform = 0, .temperature = 1.0f});
  draws.push_back({.uniform = 1 - 0x1p-53, .temperature = 1.0f});
  return draws;
}

TEST_CASE("tokens: draws at every temperature and cut land where the probabilities say") {
  Random random(91);
  for (const int columns : {1, 2, 33, 1000, 8192, 32003, 128256}) {
    const std::vector<TokenDraw> draws = all_draws(random);
    const int m = static_cast<int>(draws.size());
    check_draws(random_rows(m, columns, columns, static_cast<uint64_t>(500 + columns)), draws);
  }
}

TEST_CASE("tokens: equal logits are drawn in the order of their ids") {
  Random random(92);
  const std::vector<TokenDraw> draws = all_draws(random);
  HostRows x(static_cast<int>(draws.size()), 20000, 20000);
  for (int r = 0; r < x.m; ++r) {
    for (int c = 0; c < x.columns; ++c)
      x.at(r, c) = r % 2 == 0 ? 0.25f : static_cast<float>(random.below(3));
  }
  check_draws(x, draws);
}

TEST_CASE("tokens: a draw from logits that are not finite is -1") {
  HostRows x = random_rows(3, 5000, 5000, 93);
  x.at(0, 17) = std::numeric_limits<float>::quiet_NaN();
  x.at(1, 4999) = std::numeric_limits<float>::infinity();
  const Stream stream;
  DeviceRows device(x);
  DeviceArray<int32_t> ids = poisoned<int32_t>(x.m);
  const DeviceArray<TokenDraw> draws =
      on_device(std::vector<TokenDraw>(3, {.uniform = 0.5, .temperature = 1.0f}));
  require_ok(draw_tokens(device.values(), draws.data(), ids.data(), stream));
  stream.wait();
  const std::vector<int32_t> got = require_value(ids.download());
  CHECK(got[0] == -1);
  CHECK(got[1] == -1);
  CHECK(got[2] >= 0);
}

}  // namespace
}  // namespace abq::runtime::cuda
