#include "wgmma_cases.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/cuda/linear/base5_tiles.h"
#include "support/random.h"

namespace abq::runtime::cuda::wgmma_test {
namespace {

constexpr double kUnit = 0x1p-24;  // relative error of one float32 operation

// One code in four is the largest: sums come near their limits.
uint8_t random_code(Random& random, int levels) {
  if (random.below(4) == 0) return static_cast<uint8_t>(levels - 1);
  return static_cast<uint8_t>(random.below(static_cast<uint64_t>(levels)));
}

// Row of the weights behind a row of tiles; -1 beyond them.
int64_t source_row(const Case& c, int64_t tile_row) {
  if (!c.gated) return tile_row < c.n ? tile_row : -1;
  const int64_t output = tile_row / 16 * 8 + tile_row % 8;
  if (output >= c.n / 2) return -1;
  return tile_row % 16 < 8 ? output : output + c.n / 2;
}

}  // namespace

std::string name_of(const Case& c) {
  return fmt::format("w{}{}a{} group {} {}M={} N={} K={}", c.balanced ? 2 : c.planes,
                     c.balanced ? "b" : "", c.bits, c.group_size, c.gated ? "gated " : "", c.m, c.n,
                     c.k);
}

quant::QuantizedWeights make_weights(const Case& c, uint64_t seed) {
  Random random(seed);
  quant::QuantizedWeights w;
  w.spec = {.bits = c.balanced ? 2 : c.planes,
            .balanced = c.balanced,
            .group_size = c.group_size,
            .symmetric = false};
  w.n = c.n;
  w.k = c.k;
  const int levels = w.spec.levels();
  w.codes.resize(static_cast<size_t>(w.n * w.k));
  for (uint8_t& code : w.codes)
    code = random_code(random, levels);
  const size_t groups = static_cast<size_t>(w.n * w.spec.groups(w.k));
  for (size_t i = 0; i < groups; ++i) {
    w.scales.push_back(static_cast<float>(0.001 + 0.01 * random.uniform()));
    w.zeros.push_back(w.spec.binary() ? uint8_t{1} : random_code(random, levels));
  }
  return w;
}

quant::QuantizedTokens make_tokens(const Case& c, uint64_t seed) {
  Random random(seed);
  quant::QuantizedTokens x;
  x.bits = c.bits;
  x.m = c.m;
  x.k = c.k;
  x.codes.resize(static_cast<size_t>(x.m * x.k));
  for (uint8_t& code : x.codes)
    code = random_code(random, 1 << c.bits);
  for (int64_t i = 0; i < x.m; ++i) {
    x.scales.push_back(static_cast<float>(0.01 + 0.1 * random.uniform()));
    x.zeros.push_back(random_code(random, 1 << c.bits));
  }
  return x;
}

HostWeights pack_weights(const Case& c, const quant::QuantizedWeights& w) {
  const int k_tiles = tiles_of(w.k, kTileDepth);
  const int n_tiles = tiles_of(w.n, kTileRows);
  const int groups = static_cast<int>(w.spec.groups(w.k));
  const int64_t group_inputs = w.k / groups;
  HostWeights host;
  WeightTiles& v = host.view;
  v.encoding = c.balanced ? TileEncoding::kBase5 : TileEncoding::kPlanes;
  v.n = c.n;
  v.k = c.k;
  v.planes = w.spec.code_bits();
  v.group_size = c.group_size;
  v.groups = groups;
  v.gated = c.gated;
  v.denominator = w.spec.zero_denominator();

  const auto code = [&](int64_t row, int64_t input) -> uint32_t {
    const int64_t from = source_row(c, row);
    return from < 0 || input >= w.k ? 0u : w.codes[static_cast<size_t>(from * w.k + input)];
  };
  const int64_t row_loads = c.balanced ? base5_row_loads(k_tiles) : k_tiles * v.planes;
  host.tiles.assign(static_cast<size_t>(n_tiles * row_loads * kLanes * 4), 0u);
  for (int nt = 0; nt < n_tiles; ++nt) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const auto register_codes = [&](int step, int word) {  // four codes as bytes
        uint32_t bytes = 0;
        for (int b = 0; b < 4; ++b) {
          const int64_t input = tile_input(step, word / 2, lane % 4, b);
          bytes |= code(int64_t{16} * nt + lane / 4 + 8 * (word % 2), input) << (8 * b);
        }
        return bytes;
      };
      for (int kt = 0; !c.balanced && kt < k_tiles; ++kt) {
        for (int i = 0; i < 32; ++i) {
          const uint32_t bytes = register_codes(8 * kt + i / 4, i % 4);
          for (int p = 0; p < v.planes; ++p) {
            const int64_t at =
                (((int64_t{nt} * k_tiles + kt) * v.planes + p) * kLanes + lane) * 4 + i % 4;
            host.tiles[static_cast<size_t>(at)] |= ((bytes >> p) & 0x01010101u) << (i / 4);
          }
        }
      }
      for (int unit = 0; c.balanced && unit < base5_units(k_tiles); ++unit) {
        const int tiles = base5_unit_tiles(k_tiles, unit);
        const auto registers = [&](int r) { return register_codes(24 * unit + r / 4, r % 4); };
        Base5UnitWords words;
        pack_base5_unit(tiles, registers, words);
        for (int load = 0; load < base5_loads(tiles); ++load) {
          std::copy_n(words[load], 4,
                      host.tiles.begin() + 4 * base5_load(nt, k_tiles, unit, load, lane));
        }
      }
    }
    for (int group = 0; group < groups; ++group) {
      for (int row = 0; row < kTileRows; ++row) {
        const int64_t from = source_row(c, int64_t{16} * nt + row);
        const size_t at = static_cast<size_t>(from * groups + group);
        int32_t sum = 0;
        for (int64_t i = group * group_inputs; from >= 0 && i < (group + 1) * group_inputs; ++i)
          sum += w.codes[static_cast<size_t>(from * w.k + i)];
        host.scales.push_back(from < 0 ? 0.0f : w.scales[at] / static_cast<float>(v.denominator));
        host.zeros.push_back(from < 0 ? 0 : w.zeros[at]);
        host.sums.push_back(sum);
      }
    }
  }
  v.tile_bytes = static_cast<int64_t>(host.tiles.size() * sizeof(uint32_t));
  v.tiles = host.tiles.data();
  v.scales = host.scales.data();
  v.zeros = host.zeros.data();
  v.sums = host.sums.data();
  return host;
}

HostTokens pack_tokens(const quant::QuantizedTokens& x) {
  const int k_tiles = tiles_of(x.k, kTileDepth);
  const int64_t padding = x.m > 8 ? kTokenPadding : 8;
  const int64_t tokens = (x.m + padding - 1) / padding * padding;
  Random random(static_cast<uint64_t>(x.m * 7 + x.k));
  HostTokens host;
  host.view.m = static_cast<int>(x.m);
  host.view.k = static_cast<int>(x.k);
  host.view.bits = x.bits;
  for (int64_t i = 0; i < tokens * k_tiles * x.bits * 8; ++i)
    host.planes.push_back(static_cast<uint32_t>(random.next()));
  for (int64_t i = 0; i < tokens * k_tiles * kTileDepth; ++i)
    host.codes.push_back(static_cast<uint8_t>(random.next()));
  for (int64_t i = 0; i < tokens; ++i) {
    host.scales.push_back(1e30f);
    host.zeros.push_back(static_cast<int32_t>(random.next()));
    host.sums.push_back(static_cast<int32_t>(random.next()));
  }
  for (int64_t i = 0; i < tokens * 8 * k_tiles; ++i)
    host.group_sums.push_back(static_cast<int32_t>(random.next()));

  for (int64_t token = 0; token < x.m; ++token) {
    int32_t* const group_sums = host.group_sums.data() + token * 8 * k_tiles;
    std::fill_n(group_sums, 8 * k_tiles, 0);
    int32_t sum = 0;
    for (int64_t k = 0; k < x.k; ++k) {
      const uint32_t code = x.codes[static_cast<size_t>(token * x.k + k)];
      sum += static_cast<int32_t>(code);
      group_sums[k / 32] += static_cast<int32_t>(code);
      const int64_t octet = token / 8 * (16 * k_tiles) + k / 16;
      host.codes[static_cast<size_t>((octet * 8 + token % 8) * 16 + k % 16)] =
          static_cast<uint8_t>(code);
      const int64_t inside = k % kTileDepth;
      const int bit = static_cast<int>(8 * (inside % 4) + inside / 32);
      for (int j = 0; j < x.bits; ++j) {
        // wgmma kernels take more than 8 tokens: [block][k tile][bits][t / 2][128][t % 2][h].
        const int64_t t = inside / 4 % 4;
        const int64_t plane = (token / 128 * k_tiles + k / kTileDepth) * x.bits + j;
        const int64_t at =
            ((plane * 2 + t / 2) * 128 + token % 128) * 4 + t % 2 * 2 + inside / 16 % 2;
        uint32_t& word = host.planes[static_cast<size_t>(at)];
        word = (word & ~(1u << bit)) | ((code >> j) & 1u) << bit;
      }
    }
    host.scales[static_cast<size_t>(token)] = x.scales[static_cast<size_t>(token)];
    host.zeros[static_cast<size_t>(token)] = x.zeros[static_cast<size_t>(token)];
    host.sums[static_cast<size_t>(token)] = sum;
  }
  host.view.planes = host.planes.data();
  host.view.codes = host.codes.data();
  host.view.scales = host.scales.data();
  host.view.zeros = host.zeros.data();
  host.view.sums = host.sums.data();
  host.view.group_sums = host.group_sums.data();
  return host;
}

std::vector<int64_t> code_products(const quant::QuantizedTokens& x,
                                   const quant::QuantizedWeights& w) {
  const int64_t groups = w.spec.groups(w.k);
  const int64_t inputs = w.k / groups;
  std::vector<int64_t> products;
  products.reserve(static_cast<size_t>(x.m * w.n * groups));
  for (int64_t m = 0; m < x.m; ++m) {
    for (int64_t n = 0; n < w.n; ++n) {
      const uint8_t* a = x.codes.data() + m * x.k;
      const uint8_t* b = w.codes.data() + n * w.k;
      for (int64_t g = 0; g < groups; ++g, a += inputs, b += inputs) {
        int32_t sum = 0;
        for (int64_t i = 0; i < inputs; ++i)
          sum += a[i] * b[i];
        products.push_back(sum);
      }
    }
  }
  return products;
}

namespace {

// The product of one token and row before gating, and how far float32 may be off.
struct Value {
  double value = 0;
  double error = 0;
};

}  // namespace

Expected expected_output(const Case& c, const quant::QuantizedTokens& x,
                         const quant::QuantizedWeights& w, const std::vector<int64_t>& products,
                         const std::vector<float>& residual) {
  const int64_t groups = w.spec.groups(w.k);
  const int64_t inputs = w.k / groups;
  const double d = w.spec.zero_denominator();
  const auto sum_codes = [&](const uint8_t* codes) {
    int64_t sum = 0;
    for (int64_t i = 0; i < inputs; ++i)
      sum += codes[i];
    return static_cast<double>(sum);
  };
  std::vector<double> w_sums;
  std::vector<double> x_sums;
  for (int64_t i = 0; i < w.n * groups; ++i)
    w_sums.push_back(sum_codes(w.codes.data() + i * inputs));
  for (int64_t i = 0; i < x.m * groups; ++i)
    x_sums.push_back(sum_codes(x.codes.data() + i * inputs));

  const auto product = [&](int64_t m, int64_t n) {
    Value v;
    const double x_zero = x.zeros[static_cast<size_t>(m)];
    for (int64_t g = 0; g < groups; ++g) {
      const size_t at = static_cast<size_t>(n * groups + g);
      const double scale = w.scales[at] / d;
      const double zero = w.zeros[at];
      const double sum =
          d * static_cast<double>(products[static_cast<size_t>((m * w.n + n) * groups + g)]);
      const double first = sum - zero * x_sums[static_cast<size_t>(m * groups + g)];
      const double second = x_zero * (d * w_sums[at] - static_cast<double>(inputs) * zero);
      v.value += scale * (first - second);
      // Per channel the difference is an exact integer; with groups its parts are summed apart.
      v.error += groups == 1 && c.group_size == 0
                     ? 4 * kUnit * scale * std::abs(first - second)
                     : (static_cast<double>(groups) + 6) * kUnit * scale *
                           (std::abs(first) + std::abs(second));
    }
    const double x_scale = x.scales[static_cast<size_t>(m)];
    return Value{v.value * x_scale, v.error * x_scale};
  };

  Expected expected;
  expected.columns = c.gated ? c.n / 2 : c.n;
  for (int64_t m = 0; m < x.m; ++m) {
    for (int64_t column = 0; column < expected.columns; ++column) {
      Value v = product(m, column);
      if (c.gated) {
        const Value up = product(m, column + c.n / 2);
        const double gate = v.value / (1 + std::exp(-v.value));
        // |silu'| < 1.1; exp and a division of two ulps each, a sum, a product.
        const double gate_error = 1.1 * v.error + 12 * kUnit * std::abs(gate);
        v.error = gate_error * std::abs(up.value) + (std::abs(gate) + gate_error) * up.error;
        v.value = gate * up.value;
      }
      if (!residual.empty())
        v.value += residual[static_cast<size_t>(m * expected.columns + column)];
      expected.y.push_back(v.value);
      expected.tolerance.push_back(v.error + kUnit * std::abs(v.value) + 1e-30);
    }
  }
  return expected;
}

}  // namespace abq::runtime::cuda::wgmma_test
