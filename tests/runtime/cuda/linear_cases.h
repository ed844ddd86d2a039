// Random quantized weights and tokens, and their forms as kernels read them (runtime/cuda/views.h),
// made on the host: what the tests of all linear kernels start from.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "quant/affine.h"
#include "quant/packed_layout.h"
#include "quant/reference_gemm.h"
#include "runtime/cuda/linear/base5_tiles.h"
#include "runtime/cuda/linear/tile_layout.h"
#include "runtime/stored_weights.h"
#include "support/random.h"

namespace abq::runtime::cuda {

// Codes, scales and zero points of any spec, all values likely.
inline quant::QuantizedWeights random_weights(const quant::WeightSpec& spec, int64_t n, int64_t k,
                                              uint64_t seed) {
  Random random(seed);
  quant::QuantizedWeights w{spec, n, k, {}, {}, {}};
  const auto levels = static_cast<uint64_t>(spec.levels());
  const auto params = static_cast<size_t>(n * spec.groups(k));
  w.codes.resize(static_cast<size_t>(n * k));
  for (uint8_t& code : w.codes)
    code = static_cast<uint8_t>(random.below(levels));
  w.scales.resize(params);
  w.zeros.resize(params);
  for (size_t i = 0; i < params; ++i) {
    w.scales[i] = static_cast<float>(0.001 + 0.01 * random.uniform());
    w.zeros[i] = static_cast<uint8_t>(spec.binary()    ? 1
                                      : spec.symmetric ? 1u << (spec.bits - 1)
                                                       : random.below(levels));
  }
  return w;
}

inline quant::QuantizedTokens random_tokens(int bits, int64_t m, int64_t k, uint64_t seed) {
  Random random(seed);
  quant::QuantizedTokens x{bits, m, k, {}, {}, {}};
  x.codes.resize(static_cast<size_t>(m * k));
  for (uint8_t& code : x.codes)
    code = static_cast<uint8_t>(random.below(uint64_t{1} << bits));
  for (int64_t i = 0; i < m; ++i) {
    x.scales.push_back(static_cast<float>(0.01 + 0.1 * random.uniform()));
    x.zeros.push_back(static_cast<uint8_t>(random.below(uint64_t{1} << bits)));
  }
  return x;
}

// Weights in the form of an artifact, with the memory behind the view.
struct StoredCase {
  std::vector<std::byte> packed;
  std::vector<float> scales;
  std::vector<uint8_t> zeros;
  StoredWeights view;

  explicit StoredCase(const quant::QuantizedWeights& w) : scales(w.scales), zeros(w.zeros) {
    const auto layout = quant::PackedLayout::for_weights(w.spec, w.n, w.k);
    packed.resize(static_cast<size_t>(layout.total_bytes()));
    for (int64_t row = 0; row < w.n; ++row) {
      quant::pack_row(
          layout,
          std::span(w.codes).subspan(static_cast<size_t>(row * w.k), static_cast<size_t>(w.k)),
          std::span(packed).subspan(static_cast<size_t>(row * layout.row_bytes()),
                                    static_cast<size_t>(layout.row_bytes())));
    }
    view = {w.spec, layout, packed, scales, zeros};
  }
  StoredCase(const StoredCase&) = delete;
  StoredCase& operator=(const StoredCase&) = delete;
};

// Tokens in every form; what the contract calls arbitrary is random.
struct HostTokens {
  int m = 0;
  int k = 0;
  int bits = 0;
  std::vector<uint32_t> planes;
  std::vector<uint8_t> codes;
  std::vector<float> scales;
  std::vector<int32_t> zeros;
  std::vector<int32_t> sums;
  std::vector<int32_t> group_sums;

  explicit HostTokens(const quant::QuantizedTokens& x, uint64_t seed = 99)
      : m(static_cast<int>(x.m)), k(static_cast<int>(x.k)), bits(x.bits), scales(x.scales) {
    Random random(seed);
    const int k_tiles = tiles_of(k, kTileDepth);
    const int64_t columns = static_cast<int64_t>(k_tiles) * kTileDepth;
    const int64_t padding = m > kTokenColumns ? kTokenPadding : kTokenColumns;
    const int64_t rows = tiles_of(m, static_cast<int>(padding)) * padding;
    planes.resize(static_cast<size_t>(8 * rows) * static_cast<size_t>(k_tiles * bits));
    codes.resize(static_cast<size_t>(rows * columns));
    group_sums.resize(static_cast<size_t>(8 * m) * static_cast<size_t>(k_tiles));
    sums.resize(static_cast<size_t>(rows));
    scales.resize(static_cast<size_t>(rows), 1e30f);
    for (uint8_t& code : codes)
      code = static_cast<uint8_t>(random.next());
    for (int64_t token = 0; token < m; ++token) {
      zeros.push_back(x.zeros[static_cast<size_t>(token)]);
      for (int64_t i = 0; i < columns; ++i) {
        const bool exists = i < k;
        const uint8_t code = exists ? x.codes[static_cast<size_t>(token * k + i)]
                                    : static_cast<uint8_t>(random.below(uint64_t{1} << bits));
        place(token, k_tiles, i, code);
        if (!exists) continue;
        sums[static_cast<size_t>(token)] += code;
        group_sums[static_cast<size_t>(token * 8 * k_tiles + i / 32)] += code;
      }
    }
    zeros.resize(static_cast<size_t>(rows), 77);
  }

 private:
  void place(int64_t token, int k_tiles, int64_t i, uint8_t code) {
    codes[static_cast<size_t>(token_code(token, k_tiles, i))] = code;
    const int in = static_cast<int>(i % kTileDepth);  // = tile_input(s, h, t, b)
    const int s = in / 32;
    const int h = in / 16 % 2;
    const int t = in / 4 % 4;
    const int b = in % 4;
    for (int j = 0; j < bits; ++j) {
      const int64_t pair =
          plane_pair(m, token, k_tiles, static_cast<int>(i / kTileDepth), bits, j, t);
      planes[static_cast<size_t>(2 * pair + h)] |= static_cast<uint32_t>((code >> j) & 1)
                                                   << (8 * b + s);
    }
  }
};

// Rows as tiles hold them, of parts stacked or interleaved.
struct HostTiles {
  TileEncoding encoding = TileEncoding::kPlanes;
  int n_tiles = 0;
  int k_tiles = 0;
  int planes = 0;
  std::vector<uint8_t> codes;  // [16 * n_tiles][256 * k_tiles]
  std::vector<uint32_t> words;

  HostTiles(const std::vector<const quant::QuantizedWeights*>& parts, bool gated) {
    const quant::QuantizedWeights& first = *parts[0];
    int64_t n = 0;
    for (const auto* const part : parts)
      n += part->n;
    n_tiles = tiles_of(n, kTileRows);
    k_tiles = tiles_of(first.k, kTileDepth);
    planes = first.spec.code_bits();
    if (first.spec.balanced && first.spec.bits == 2) encoding = TileEncoding::kBase5;
    const int64_t columns = static_cast<int64_t>(k_tiles) * kTileDepth;
    codes.resize(static_cast<size_t>(n_tiles * kTileRows * columns));
    int64_t before = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      for (int64_t row = 0; row < parts[i]->n; ++row) {
        const int64_t at = tile_row(gated, static_cast<int>(i), before, row) * columns;
        std::copy_n(parts[i]->codes.begin() + row * first.k, first.k, codes.begin() + at);
      }
      before += parts[i]->n;
    }
    encoding == TileEncoding::kBase5 ? pack_base5() : pack_planes();
  }

  // Register `word` of step `step` (from the row's first input on) of a lane.
  uint32_t codes_of(int n_tile, int lane, int word, int step) const {
    const int64_t row = n_tile * kTileRows + word_row(lane, word);
    const int64_t at = row * k_tiles * kTileDepth + register_input(lane, word, step);
    uint32_t four = 0;
    for (int b = 0; b < 4; ++b)
      four |= static_cast<uint32_t>(codes[static_cast<size_t>(at + b)]) << (8 * b);
    return four;
  }

 private:
  void pack_planes() {
    words.resize(static_cast<size_t>(n_tiles) * static_cast<size_t>(k_tiles * planes * kLanes * 4));
    for (int n = 0; n < n_tiles; ++n)
      for (int k = 0; k < k_tiles; ++k)
        for (int lane = 0; lane < kLanes; ++lane)
          for (int word = 0; word < 4; ++word)
            for (int step = 0; step < kTileSteps; ++step) {
              const uint32_t four = codes_of(n, lane, word, kTileSteps * k + step);
              for (int plane = 0; plane < planes; ++plane) {
                const int64_t load = plane_load(n, k_tiles, k, planes, plane, lane);
                words[static_cast<size_t>(4 * load + word)] |= ((four >> plane) & 0x01010101u)
                                                               << step;
              }
            }
  }
  void pack_base5() {
    words.resize(static_cast<size_t>(n_tiles) *
                 static_cast<size_t>(base5_row_loads(k_tiles) * kLanes * 4));
    for (int n = 0; n < n_tiles; ++n)
      for (int unit = 0; unit < base5_units(k_tiles); ++unit)
        for (int lane = 0; lane < kLanes; ++lane) {
          const int tiles = base5_unit_tiles(k_tiles, unit);
          const auto registers = [&](int r) {
            return codes_of(n, lane, r % 4, kTileSteps * kBase5UnitTiles * unit + r / 4);
          };
          Base5UnitWords packed;
          pack_base5_unit(tiles, registers, packed);
          for (int load = 0; load < base5_loads(tiles); ++load)
            std::copy_n(packed[load], 4,
                        words.begin() + 4 * base5_load(n, k_tiles, unit, load, lane));
        }
  }
};

// Parts stacked by rows as one matrix.
inline quant::QuantizedWeights stack(const std::vector<const quant::QuantizedWeights*>& parts) {
  quant::QuantizedWeights all = *parts[0];
  for (size_t i = 1; i < parts.size(); ++i) {
    all.n += parts[i]->n;
    all.codes.insert(all.codes.end(), parts[i]->codes.begin(), parts[i]->codes.end());
    all.scales.insert(all.scales.end(), parts[i]->scales.begin(), parts[i]->scales.end());
    all.zeros.insert(all.zeros.end(), parts[i]->zeros.begin(), parts[i]->zeros.end());
  }
  return all;
}

// Outputs in float64 from the sums of code products [m, n, groups], and bounds on how far float32
// may be from them: each product and sum of the epilogue rounds once, relative to its terms.
struct Expected {
  std::vector<double> y;
  std::vector<double> bound;
};
inline constexpr double kRounding = 0x1p-24;

inline Expected expected_outputs(const quant::QuantizedTokens& x, const quant::QuantizedWeights& w,
                                 const std::vector<int64_t>& products) {
  const int64_t groups = w.spec.groups(w.k);
  const int64_t length = w.k / groups;
  const int64_t denominator = w.spec.zero_denominator();
  const auto sums_of = [&](const std::vector<uint8_t>& codes, int64_t rows) {
    std::vector<int64_t> sums(static_cast<size_t>(rows * groups));
    for (int64_t i = 0; i < rows * w.k; ++i)
      sums[static_cast<size_t>(i / length)] += codes[static_cast<size_t>(i)];
    return sums;
  };
  const std::vector<int64_t> x_sums = sums_of(x.codes, x.m);
  const std::vector<int64_t> w_sums = sums_of(w.codes, w.n);
  Expected expected;
  for (int64_t m = 0; m < x.m; ++m)
    for (int64_t n = 0; n < w.n; ++n) {
      double sum = 0;
      double terms = 0;
      for (int64_t g = 0; g < groups; ++g) {
        const auto at = static_cast<size_t>(n * groups + g);
        const int64_t x_zero = x.zeros[static_cast<size_t>(m)];
        const int64_t integer =
            denominator *
                (products[static_cast<size_t>((m * w.n + n) * groups + g)] - x_zero * w_sums[at]) -
            w.zeros[at] * x_sums[static_cast<size_t>(m * groups + g)] +
            length * x_zero * w.zeros[at];
        const double term = static_cast<double>(w.scales[at]) * static_cast<double>(integer);
        sum += term;
        terms += std::abs(term);
      }
      const double scale =
          static_cast<double>(x.scales[static_cast<size_t>(m)]) / static_cast<double>(denominator);
      expected.y.push_back(scale * sum);
      expected.bound.push_back(scale * terms * kRounding * static_cast<double>(groups + 4));
    }
  return expected;
}

}  // namespace abq::runtime::cuda
