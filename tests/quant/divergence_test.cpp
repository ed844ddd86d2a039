#include "quant/divergence.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

namespace abq::quant {

TEST_CASE("the divergence of two coins is that of the textbook, whatever is added to the logits") {
  // P = (3/4, 1/4), Q = (1/2, 1/2): 3/4 log(3/2) + 1/4 log(1/2).
  const std::vector<float> p = {std::log(3.0f), 0.0f};
  const std::vector<float> q = {100.0f, 100.0f};
  const Divergence d = compare_logits(p, q);
  CHECK(d.kl == doctest::Approx(0.75 * std::log(1.5) + 0.25 * std::log(0.5)).epsilon(1e-6));
  CHECK(d.positions == 1);
  CHECK(compare_logits(p, p).kl == 0);
}

TEST_CASE("rows add up, and positions whose likeliest token is the same are counted") {
  const std::vector<float> a = {2, 1, 0, 0, 1, 2};
  const std::vector<float> b = {2, 1, 0, 3, 1, 2};
  const Divergence d = compare_logits(MatrixView<const float>(a.data(), 2, 3),
                                      MatrixView<const float>(b.data(), 2, 3));
  CHECK(d.positions == 2);
  CHECK(d.same_top == 1);
  CHECK(d.kl == compare_logits(std::span(a).subspan(3), std::span(b).subspan(3)).kl);
  CHECK(d.mean_kl() == d.kl / 2);
}

}  // namespace abq::quant
