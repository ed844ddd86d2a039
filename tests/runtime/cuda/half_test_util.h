// Weights and tokens in the forms that the half kernels read, made on the host.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "quant/affine.h"
#include "runtime/cuda/linear/base5_tiles.h"
#include "support/float16.h"
#include "support/random.h"

namespace abq::runtime::cuda {

// Codes, scales and zero points drawn over their whole ranges.
inline quant::QuantizedWeights random_codes(uint64_t seed, const quant::WeightSpec& spec, int64_t n,
                                            int64_t k) {
  Random random(seed);
  quant::QuantizedWeights w{.spec = spec, .n = n, .k = k, .codes = {}, .scales = {}, .zeros = {}};
  const uint64_t levels = static_cast<uint64_t>(spec.levels());
  for (int64_t i = 0; i < n * k; ++i)
    w.codes.push_back(static_cast<uint8_t>(random.below(levels)));
  for (int64_t i = 0; i < n * spec.groups(k); ++i) {
    w.scales.push_back(static_cast<float>(0.01 + random.uniform()));
    w.zeros.push_back(static_cast<uint8_t>(spec.binary() ? 1 : random.below(levels)));
  }
  return w;
}

inline std::vector<float> random_tokens(uint64_t seed, int64_t count) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values)
    value = static_cast<float>(random.normal() + 0.25);
  return values;
}

struct HostTiles {
  WeightTiles shape;  // pointers null
  std::vector<uint32_t> tiles;
  std::vector<float> scales;
  std::vector<int32_t> zeros;
};

// The code of row `row` of the tiles: rows are those of the weights, or gates and ups in turns.
inline int64_t source_row(const HostTiles& t, int64_t row) {
  if (!t.shape.gated) return row < t.shape.n ? row : -1;
  const int64_t output = row / 16 * 8 + row % 8;
  const int64_t outputs = t.shape.n / 2;
  return output < outputs ? output + (row % 16 >= 8 ? outputs : 0) : -1;
}

// Weights [n, k]; gated: the first half of the rows are gates, the others the ups. Gated tiles hold
// 16 rows for each 8 outputs.
inline HostTiles make_tiles(const quant::QuantizedWeights& w, bool gated) {
  const int groups = static_cast<int>(w.spec.groups(w.k));
  const int k_tiles = tiles_of(w.k, kTileDepth);
  const int64_t n_tiles = gated ? tiles_of(w.n / 2, 8) : tiles_of(w.n, kTileRows);
  HostTiles t;
  t.shape.n = static_cast<int>(w.n);
  t.shape.k = static_cast<int>(w.k);
  t.shape.planes = w.spec.code_bits();
  t.shape.group_size = w.spec.group_size;
  t.shape.groups = groups;
  t.shape.gated = gated;
  t.shape.denominator = w.spec.zero_denominator();
  const bool base5 = w.spec.bits == 2 && w.spec.balanced;
  t.shape.encoding = base5 ? TileEncoding::kBase5 : TileEncoding::kPlanes;
  const auto code = [&](int64_t row, int64_t input) -> uint32_t {
    const int64_t from = source_row(t, row);
    return from < 0 || input >= w.k ? 0u : w.codes[static_cast<size_t>(from * w.k + input)];
  };
  const int64_t loads = base5 ? base5_row_loads(k_tiles) : k_tiles * t.shape.planes;
  t.tiles.resize(static_cast<size_t>(n_tiles * loads * kLanes * 4));
  for (int64_t n_tile = 0; n_tile < n_tiles; ++n_tile) {
    for (int lane = 0; lane < kLanes; ++lane) {
      // Four codes: register `word` of step `step` of the row of tiles.
      const auto codes_of = [&](int step, int word) {
        uint32_t bytes = 0;
        for (int b = 0; b < 4; ++b) {
          bytes |= code(16 * n_tile + word_row(lane, word), register_input(lane, word, step) + b)
                   << (8 * b);
        }
        return bytes;
      };
      for (int unit = 0; base5 && unit < base5_units(k_tiles); ++unit) {
        const int count = base5_unit_tiles(k_tiles, unit);
        const auto registers = [&](int r) { return codes_of(24 * unit + r / 4, r % 4); };
        Base5UnitWords words;
        pack_base5_unit(count, registers, words);
        for (int load = 0; load < base5_loads(count); ++load) {
          const int64_t at = base5_load(n_tile, k_tiles, unit, load, lane) * 4;
          std::copy_n(words[load], 4, t.tiles.begin() + at);
        }
      }
      for (int k_tile = 0; !base5 && k_tile < k_tiles; ++k_tile) {
        for (int s = 0; s < kTileSteps; ++s) {
          for (int word = 0; word < 4; ++word) {
            const uint32_t bytes = codes_of(8 * k_tile + s, word);
            for (int p = 0; p < t.shape.planes; ++p) {
              const int64_t at =
                  plane_load(n_tile, k_tiles, k_tile, t.shape.planes, p, lane) * 4 + word;
              t.tiles[static_cast<size_t>(at)] |= ((bytes >> p) & 0x01010101u) << s;
            }
          }
        }
      }
    }
  }
  for (int64_t n_tile = 0; n_tile < n_tiles; ++n_tile) {
    for (int group = 0; group < groups; ++group) {
      for (int i = 0; i < kTileRows; ++i) {
        const int64_t from = source_row(t, n_tile * kTileRows + i);
        const size_t at = static_cast<size_t>(from * groups + group);
        t.scales.push_back(from < 0 ? 0.0f
                                    : w.scales[at] / static_cast<float>(t.shape.denominator));
        t.zeros.push_back(from < 0 ? 0 : w.zeros[at]);
      }
    }
  }
  return t;
}

// Position of input k of a token in its row of halves.
inline int64_t half_position(int64_t k) {
  constexpr int kOrder[4] = {0, 2, 1, 3};
  return k / 4 * 4 + kOrder[k % 4];
}

struct HostHalves {
  std::vector<uint16_t> halves;
  std::vector<float> scales;
};

// x [m, k] split; what lies beyond token m - 1 is NaN.
inline HostHalves make_halves(const std::vector<float>& x, int64_t m, int64_t k) {
  const int64_t row = static_cast<int64_t>(tiles_of(k, kTileDepth)) * kTileDepth;
  const int64_t rows = m > 8 ? (m + kTokenPadding - 1) / kTokenPadding * kTokenPadding : 8;
  HostHalves result;
  result.halves.assign(static_cast<size_t>(rows * 2 * row), 0x7e00u);
  std::fill_n(result.halves.begin(), m * 2 * row, uint16_t{0});
  for (int64_t token = 0; token < m; ++token) {
    float largest = 0;
    for (int64_t i = 0; i < k; ++i)
      largest = std::max(largest, std::abs(x[static_cast<size_t>(token * k + i)]));
    const float scale = std::ldexp(1.0f, std::ilogb(largest) - 10);
    result.scales.push_back(scale);
    for (int64_t i = 0; i < k; ++i) {
      const float value = x[static_cast<size_t>(token * k + i)] / scale;
      const uint16_t high = float_to_f16(value);
      const size_t at = static_cast<size_t>(token * 2 * row + half_position(i));
      result.halves[at] = high;
      result.halves[at + static_cast<size_t>(row)] = float_to_f16(value - f16_to_float(high));
    }
  }
  return result;
}

}  // namespace abq::runtime::cuda
