#include "quant/reference_gemm.h"

#include <bit>
#include <limits>
#include <span>

#include "support/parallel.h"

namespace abq::quant {
namespace {

// Codes of one group as `bits` planes of 64-bit words, plane after plane, bit k % 64 of word k
// / 64.
std::vector<uint64_t> planes_of(std::span<const uint8_t> codes, int bits) {
  const size_t words = (codes.size() + 63) / 64;
  std::vector<uint64_t> planes(words * static_cast<size_t>(bits), 0);
  for (size_t k = 0; k < codes.size(); ++k) {
    for (int b = 0; b < bits; ++b) {
      planes[static_cast<size_t>(b) * words + k / 64] |= static_cast<uint64_t>((codes[k] >> b) & 1)
                                                         << (k % 64);
    }
  }
  return planes;
}

// sum_{i<p} sum_{j<q} 2^(i+j) popcount(plane_i(qw) AND plane_j(qx)).
int64_t plane_product(std::span<const uint64_t> w, int w_bits, std::span<const uint64_t> x,
                      int x_bits) {
  const size_t words = w.size() / static_cast<size_t>(w_bits);
  int64_t sum = 0;
  for (int i = 0; i < w_bits; ++i) {
    for (int j = 0; j < x_bits; ++j) {
      int64_t ones = 0;
      for (size_t t = 0; t < words; ++t) {
        ones += std::popcount(w[static_cast<size_t>(i) * words + t] &
                              x[static_cast<size_t>(j) * words + t]);
      }
      sum += ones << (i + j);
    }
  }
  return sum;
}

int64_t sum_of(std::span<const uint8_t> codes) {
  int64_t sum = 0;
  for (const uint8_t code : codes)
    sum += code;
  return sum;
}

// Group `group` of row `row` of a code matrix with rows of `k` codes in groups of `length`.
std::span<const uint8_t> group_codes(const std::vector<uint8_t>& codes, int64_t row, int64_t k,
                                     int64_t group, int64_t length) {
  return std::span(codes).subspan(static_cast<size_t>(row * k + group * length),
                                  static_cast<size_t>(length));
}

}  // namespace

std::vector<int64_t> reference_code_products(const QuantizedTokens& x, const QuantizedWeights& w) {
  ABQ_CHECK(x.k == w.k && w.spec.quantized());
  const int64_t groups = w.spec.groups(w.k);
  const int64_t length = w.k / groups;
  std::vector<std::vector<uint64_t>> x_planes(static_cast<size_t>(x.m * groups));
  parallel_for(x.m * groups, [&](int64_t i) {
    x_planes[static_cast<size_t>(i)] =
        planes_of(group_codes(x.codes, i / groups, x.k, i % groups, length), x.bits);
  });
  std::vector<int64_t> products(static_cast<size_t>(x.m * w.n * groups));
  parallel_for(w.n, [&](int64_t n) {
    for (int64_t group = 0; group < groups; ++group) {
      const std::vector<uint64_t> w_planes =
          planes_of(group_codes(w.codes, n, w.k, group, length), w.spec.code_bits());
      for (int64_t m = 0; m < x.m; ++m) {
        products[static_cast<size_t>((m * w.n + n) * groups + group)] =
            plane_product(w_planes, w.spec.code_bits(),
                          x_planes[static_cast<size_t>(m * groups + group)], x.bits);
      }
    }
  });
  return products;
}

void reference_gemm(const QuantizedTokens& x, const QuantizedWeights& w, MatrixView<float> y) {
  ABQ_CHECK(y.rows == x.m && y.cols == w.n);
  const std::vector<int64_t> products = reference_code_products(x, w);
  const int64_t groups = w.spec.groups(w.k);
  const int64_t length = w.k / groups;
  const int64_t denominator = w.spec.zero_denominator();
  std::vector<int64_t> x_sums(static_cast<size_t>(x.m * groups));
  for (int64_t i = 0; i < x.m * groups; ++i) {
    x_sums[static_cast<size_t>(i)] =
        sum_of(group_codes(x.codes, i / groups, x.k, i % groups, length));
  }
  parallel_for(w.n, [&](int64_t n) {
    std::vector<int64_t> w_sums(static_cast<size_t>(groups));
    for (int64_t group = 0; group < groups; ++group)
      w_sums[static_cast<size_t>(group)] = sum_of(group_codes(w.codes, n, w.k, group, length));
    for (int64_t m = 0; m < x.m; ++m) {
      const int64_t x_zero = x.zeros[static_cast<size_t>(m)];
      double sum = 0;
      for (int64_t group = 0; group < groups; ++group) {
        const size_t at = static_cast<size_t>(n * groups + group);
        const int64_t w_zero = w.zeros[at];
        // The integer identity times the denominator of the zero point, so that binary stays exact.
        const int64_t integer =
            denominator * (products[static_cast<size_t>((m * w.n + n) * groups + group)] -
                           x_zero * w_sums[static_cast<size_t>(group)]) -
            w_zero * x_sums[static_cast<size_t>(m * groups + group)] + length * x_zero * w_zero;
        sum += static_cast<double>(w.scales[at]) * static_cast<double>(integer);
      }
      const double scale =
          static_cast<double>(x.scales[static_cast<size_t>(m)]) / static_cast<double>(denominator);
      y.row(m)[n] = static_cast<float>(scale * sum);
    }
  });
}

bool fits_int32(int64_t k, int max_weight_code, int activation_bits) {
  ABQ_CHECK(max_weight_code > 0 && activation_bits >= 1 && activation_bits <= 8);
  const int64_t largest = static_cast<int64_t>(max_weight_code) * ((1 << activation_bits) - 1);
  return k <= std::numeric_limits<int32_t>::max() / largest;
}

}  // namespace abq::quant
