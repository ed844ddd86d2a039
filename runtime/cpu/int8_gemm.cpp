#include "runtime/cpu/int8_gemm.h"

#include <algorithm>

#include "support/parallel.h"

namespace abq::runtime {
namespace {

// One tile of the output: rows [row, row + rows) and panels [panel, panel + panels).
struct Tile {
  int64_t row;
  int rows;  // a multiple of 4; rows beyond N are padding
  int64_t panel;
  int panels;
};

// Memory of one thread, kept between calls.
struct Scratch {
  AlignedBuffer<uint8_t> tile;
  AlignedBuffer<int32_t> sums;
  AlignedBuffer<float> group_sums;
  AlignedBuffer<float> zeros;
};

Scratch& thread_scratch() {
  thread_local Scratch scratch;
  if (scratch.sums.size() == 0) {
    // Zeroed once: a kernel may read (and ignore) rows beyond those that were expanded.
    scratch.tile.resize(2 * kTileRows * kTileCodes);
    std::fill_n(scratch.tile.data(), scratch.tile.size(), uint8_t{0});
    scratch.sums.resize(kTilePanels * kTileRows * kPanelTokens);
    scratch.group_sums.resize(kTilePanels * kTileRows * kPanelTokens);
  }
  return scratch;
}

template <class Body>
void for_tiles(const FieldWeights& w, const PackedTokens& x, const Body& body) {
  const int64_t panels = (x.m() + kPanelTokens - 1) / kPanelTokens;
  const int64_t row_tiles = (w.n + kTileRows - 1) / kTileRows;
  const int64_t panel_tiles = (panels + kTilePanels - 1) / kTilePanels;
  parallel_for(row_tiles * panel_tiles, [&](int64_t task) {
    Tile tile;
    tile.row = task / panel_tiles * kTileRows;
    tile.rows = static_cast<int>(std::min<int64_t>(kTileRows, w.blocks * kBlockRows - tile.row));
    tile.panel = task % panel_tiles * kTilePanels;
    tile.panels = static_cast<int>(std::min<int64_t>(kTilePanels, panels - tile.panel));
    body(tile);
  });
}

void expand_rows(const FieldWeights& w, const GemmPlan& plan, const Tile& tile, int64_t unit,
                 int64_t units, uint8_t* out) {
  for (int r = 0; r < tile.rows; r += kBlockRows) {
    plan.expand(w.block((tile.row + r) / kBlockRows) + unit * kBlockRows * w.unit_bytes(), units,
                out + static_cast<int64_t>(r) * kTileCodes * plan.bytes_per_code);
  }
}

GemmArgs tile_args(const PackedTokens& x, const Tile& tile, Scratch& scratch, int64_t unit,
                   int64_t units) {
  GemmArgs args;
  args.tile = scratch.tile.data();
  args.rows = tile.rows;
  args.panels = x.panel(tile.panel) + unit * kUnitCodes * kPanelTokens;
  args.panel_stride = x.padded_k() * kPanelTokens;
  args.panel_count = tile.panels;
  args.codes = units * kUnitCodes;
  args.first = unit == 0;
  args.sums = scratch.sums.data();
  return args;
}

// Integer sums of a whole tile, left in scratch.sums.
void multiply_channels(const FieldWeights& w, const GemmPlan& plan, const PackedTokens& x,
                       const Tile& tile, Scratch& scratch) {
  constexpr int64_t kUnits = kTileCodes / kUnitCodes;
  for (int64_t unit = 0; unit < w.units; unit += kUnits) {
    const int64_t units = std::min(kUnits, w.units - unit);
    expand_rows(w, plan, tile, unit, units, scratch.tile.data());
    plan.run(tile_args(x, tile, scratch, unit, units));
  }
}

// Sums of each group's codes as floats: [panel][units][groups of a unit][16].
void group_token_sums(const FieldWeights& w, const PackedTokens& x, int64_t panel, float* out) {
  const int parts = 4 / w.groups_per_unit;
  const int64_t groups = w.units * w.groups_per_unit;
  std::fill_n(out, groups * kPanelTokens, 0.0f);
  const int64_t first = panel * kPanelTokens;
  for (int64_t t = 0; t < std::min<int64_t>(kPanelTokens, x.m() - first); ++t) {
    const int32_t* sums = x.sums32(first + t);
    for (int64_t g = 0; g < groups; ++g) {
      int32_t sum = 0;
      for (int p = 0; p < parts; ++p)
        sum += sums[g * parts + p];
      out[g * kPanelTokens + t] = static_cast<float>(sum);
    }
  }
}

// Zero points less the centre, for units [unit, unit + units) of the tile's blocks.
void tile_zeros(const FieldWeights& w, const Tile& tile, int centre, int64_t unit, int64_t units,
                float* out) {
  const int64_t entries = kBlockRows * w.groups_per_unit;
  for (int r = 0; r < tile.rows; r += kBlockRows) {
    const uint8_t* zeros =
        w.zeros.data() + (tile.row + r) / kBlockRows * w.block_entries + unit * entries;
    float* block = out + r / kBlockRows * w.block_entries;
    for (int64_t i = 0; i < units * entries; ++i) {
      block[i] = static_cast<float>(zeros[i]) / static_cast<float>(w.denominator) -
                 static_cast<float>(centre);
    }
  }
}

void multiply_groups(const FieldWeights& w, const GemmPlan& plan, const PackedTokens& x,
                     const Tile& tile, const float* token_sums, Scratch& scratch) {
  constexpr int64_t kUnits = kTileCodes / kUnitCodes;
  const int64_t groups = w.units * w.groups_per_unit;
  scratch.zeros.resize(kTileRows / kBlockRows * w.block_entries);
  for (int64_t unit = 0; unit < w.units; unit += kUnits) {
    const int64_t units = std::min(kUnits, w.units - unit);
    expand_rows(w, plan, tile, unit, units, scratch.tile.data());
    tile_zeros(w, tile, plan.centre, unit, units, scratch.zeros.data());
    GemmArgs args = tile_args(x, tile, scratch, unit, units);
    args.sums = scratch.group_sums.data();
    args.scales = w.scales.data() + tile.row / kBlockRows * w.block_entries +
                  unit * kBlockRows * w.groups_per_unit;
    args.zeros = scratch.zeros.data();
    args.block_stride = w.block_entries;
    args.groups_per_unit = w.groups_per_unit;
    args.token_sums = token_sums + (tile.panel * groups + unit * w.groups_per_unit) * kPanelTokens;
    args.token_sums_stride = groups * kPanelTokens;
    plan.run(args);
  }
}

// body(row within N, token, index into the tile's sums) over what exists of a tile.
template <class Body>
void for_outputs(const FieldWeights& w, const PackedTokens& x, const Tile& tile, const Body& body) {
  const int64_t rows = std::min<int64_t>(tile.rows, w.n - tile.row);
  for (int p = 0; p < tile.panels; ++p) {
    const int64_t first = (tile.panel + p) * kPanelTokens;
    for (int64_t t = 0; t < std::min<int64_t>(kPanelTokens, x.m() - first); ++t)
      for (int64_t r = 0; r < rows; ++r)
        body(tile.row + r, first + t, (p * kTileRows + r) * kPanelTokens + t);
  }
}

// The group kernel with scale 1 for one group of one unit and 0 elsewhere gives that group's sum.
void products_of_groups(const FieldWeights& w, const GemmPlan& plan, const PackedTokens& x,
                        const Tile& tile, Scratch& scratch, std::span<int64_t> sums) {
  const int gpu = w.groups_per_unit;
  float scales[kBlockRows * 4];
  const float zeros[kBlockRows * 4] = {};
  const float no_token_sums[4 * kPanelTokens] = {};
  for (int64_t unit = 0; unit < w.units; ++unit) {
    expand_rows(w, plan, tile, unit, 1, scratch.tile.data());
    for (int g = 0; g < gpu && unit * gpu + g < w.groups(); ++g) {
      for (int i = 0; i < kBlockRows * gpu; ++i)
        scales[i] = i % gpu == g ? 1.0f : 0.0f;
      GemmArgs args = tile_args(x, tile, scratch, unit, 1);
      args.first = true;
      args.scales = scales;
      args.zeros = zeros;
      args.block_stride = 0;
      args.groups_per_unit = gpu;
      args.token_sums = no_token_sums;
      plan.run(args);
      const float* values = static_cast<const float*>(args.sums);
      const int parts = 4 / gpu;
      for_outputs(w, x, tile, [&](int64_t row, int64_t token, int64_t at) {
        int64_t token_sum = 0;
        for (int p = 0; p < parts; ++p)
          token_sum += x.sums32(token)[(unit * gpu + g) * parts + p];
        sums[static_cast<size_t>((token * w.n + row) * w.groups() + unit * gpu + g)] =
            static_cast<int64_t>(values[at]) + plan.centre * token_sum;
      });
    }
  }
}

}  // namespace

ChannelTerms make_channel_terms(const FieldWeights& w, int centre) {
  ChannelTerms terms;
  const int64_t rows = w.blocks * kBlockRows;
  terms.zeros.resize(rows);
  terms.row_terms.resize(rows);
  terms.scales.resize(rows);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t zero = w.zeros[r];
    terms.zeros[r] = static_cast<int32_t>(zero - w.denominator * centre);
    // May exceed int32 for a K beyond the bound, where it is not used.
    terms.row_terms[r] = static_cast<int32_t>(static_cast<uint32_t>(w.k * zero) -
                                              static_cast<uint32_t>(w.denominator * w.sums[r]));
    terms.scales[r] = w.scales[r] / static_cast<float>(w.denominator);
  }
  return terms;
}

void gemm_channels(const FieldWeights& w, const ChannelTerms& terms, const GemmPlan& plan,
                   const Kernels& kernels, const PackedTokens& x, MatrixView<float> y) {
  for_tiles(w, x, [&](const Tile& tile) {
    Scratch& scratch = thread_scratch();
    multiply_channels(w, plan, x, tile, scratch);
    for (int p = 0; p < tile.panels; ++p) {
      const int64_t token = (tile.panel + p) * kPanelTokens;
      FinishArgs args;
      args.sums = scratch.sums.data() + p * kTileRows * kPanelTokens;
      args.rows = static_cast<int>(std::min<int64_t>(tile.rows, w.n - tile.row));
      args.tokens = static_cast<int>(std::min<int64_t>(kPanelTokens, x.m() - token));
      args.denominator = w.denominator;
      args.zeros = terms.zeros.data() + tile.row;
      args.row_terms = terms.row_terms.data() + tile.row;
      args.scales = terms.scales.data() + tile.row;
      args.token_sums = x.sums() + token;
      args.token_zeros = x.zeros() + token;
      args.token_scales = x.scales() + token;
      args.y = y.row(token) + tile.row;
      args.y_stride = y.stride;
      kernels.finish(args);
    }
  });
}

void gemm_groups(const FieldWeights& w, const GemmPlan& plan, const PackedTokens& x,
                 MatrixView<float> y) {
  const int64_t panels = (x.m() + kPanelTokens - 1) / kPanelTokens;
  const int64_t panel_sums = w.units * w.groups_per_unit * kPanelTokens;
  thread_local AlignedBuffer<float> token_sums;
  token_sums.resize(panels * panel_sums);
  float* all_sums = token_sums.data();
  parallel_for(panels, [&](int64_t p) { group_token_sums(w, x, p, all_sums + p * panel_sums); });
  for_tiles(w, x, [&](const Tile& tile) {
    Scratch& scratch = thread_scratch();
    multiply_groups(w, plan, x, tile, all_sums, scratch);
    for_outputs(w, x, tile, [&](int64_t row, int64_t token, int64_t at) {
      const float zero = static_cast<float>(x.zeros()[token]);
      y.row(token)[row] = x.scales()[token] * (scratch.group_sums[at] - zero * w.offsets[row]);
    });
  });
}

void gemm_code_products(const FieldWeights& w, const GemmPlan& plan, const PackedTokens& x,
                        std::span<int64_t> sums) {
  for_tiles(w, x, [&](const Tile& tile) {
    Scratch& scratch = thread_scratch();
    if (w.groups_per_unit != 0) {
      products_of_groups(w, plan, x, tile, scratch, sums);
      return;
    }
    multiply_channels(w, plan, x, tile, scratch);
    for_outputs(w, x, tile, [&](int64_t row, int64_t token, int64_t at) {
      sums[static_cast<size_t>(token * w.n + row)] =
          int64_t{scratch.sums[at]} + int64_t{plan.centre} * x.sums()[token];
    });
  });
}

}  // namespace abq::runtime
