// The layouts of weight tiles and tokens, checked without a device: the matrix instructions of the
// PTX ISA written down as which element each register of each lane holds.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>

#include "runtime/cuda/linear/bytes_tokens.h"
#include "runtime/cuda/linear/plane_fields.h"
#include "tests/runtime/cuda/linear_cases.h"

namespace abq::runtime::cuda {
namespace {

// mma.m16n8k256 b1: element i of a lane's A (128 bits), B (64 bits) and C (4 words).
struct Place {
  int row;
  int column;
};
Place bit_a(int lane, int i) {
  const int group = lane >> 2;
  const bool low = i < 32 || (i >= 64 && i < 96);
  return {low ? group : group + 8, (lane % 4) * 32 + (i & 31) + (i < 64 ? 0 : 128)};
}
Place bit_b(int lane, int i) {
  return {(lane % 4) * 32 + (i & 31) + (i < 32 ? 0 : 128), lane >> 2};
}
// mma.m16n8k32 u8: elements of A (16 bytes) and B (8 bytes).
Place byte_a(int lane, int i) {
  const int group = lane >> 2;
  const bool low = i < 4 || (i >= 8 && i < 12);
  return {low ? group : group + 8, (lane % 4) * 4 + (i & 3) + (i < 8 ? 0 : 16)};
}
Place byte_b(int lane, int i) {
  return {(lane % 4) * 4 + (i & 3) + (i < 4 ? 0 : 16), lane >> 2};
}

using Sums = std::array<std::array<int64_t, 8>, 16>;

void bit_product(const std::array<std::array<uint32_t, 4>, 32>& a,
                 const std::array<std::array<uint32_t, 2>, 32>& b, Sums& sums) {
  std::array<std::array<int, 256>, 16> left{};
  std::array<std::array<int, 8>, 256> right{};
  for (size_t lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 128; ++i) {
      const Place at = bit_a(static_cast<int>(lane), i);
      left[static_cast<size_t>(at.row)][static_cast<size_t>(at.column)] =
          (a[lane][static_cast<size_t>(i / 32)] >> (i % 32)) & 1;
    }
    for (int i = 0; i < 64; ++i) {
      const Place at = bit_b(static_cast<int>(lane), i);
      right[static_cast<size_t>(at.row)][static_cast<size_t>(at.column)] =
          (b[lane][static_cast<size_t>(i / 32)] >> (i % 32)) & 1;
    }
  }
  for (size_t row = 0; row < 16; ++row)
    for (size_t column = 0; column < 8; ++column)
      for (size_t k = 0; k < 256; ++k)
        sums[row][column] += left[row][k] & right[k][column];
}

void byte_product(const std::array<std::array<uint32_t, 4>, 32>& a,
                  const std::array<std::array<uint32_t, 2>, 32>& b, Sums& sums) {
  std::array<std::array<int, 32>, 16> left{};
  std::array<std::array<int, 8>, 32> right{};
  const auto byte_of = [](const auto& words, int i) {
    return static_cast<int>((words[static_cast<size_t>(i / 4)] >> (8 * (i % 4))) & 0xffu);
  };
  for (size_t lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 16; ++i) {
      const Place at = byte_a(static_cast<int>(lane), i);
      left[static_cast<size_t>(at.row)][static_cast<size_t>(at.column)] = byte_of(a[lane], i);
    }
    for (int i = 0; i < 8; ++i) {
      const Place at = byte_b(static_cast<int>(lane), i);
      right[static_cast<size_t>(at.row)][static_cast<size_t>(at.column)] = byte_of(b[lane], i);
    }
  }
  for (size_t row = 0; row < 16; ++row)
    for (size_t column = 0; column < 8; ++column)
      for (size_t k = 0; k < 32; ++k)
        sums[row][column] += left[row][k] * right[k][column];
}

// Plane words of a lane's base-5 unit.
void base5_planes(const HostTiles& w, int n_tile, int unit, int lane, Base5UnitPlanes& planes) {
  Base5UnitWords words = {};
  for (int load = 0; load < base5_loads(base5_unit_tiles(w.k_tiles, unit)); ++load)
    std::copy_n(w.words.begin() + 4 * base5_load(n_tile, w.k_tiles, unit, load, lane), 4,
                words[load]);
  expand_base5_unit(words, planes);
}
// The A registers of bit kernels.
std::array<uint32_t, 4> plane_words(const HostTiles& w, int n_tile, int k_tile, int plane,
                                    int lane) {
  std::array<uint32_t, 4> words{};
  if (w.encoding == TileEncoding::kBase5) {
    Base5UnitPlanes planes;
    base5_planes(w, n_tile, k_tile / kBase5UnitTiles, lane, planes);
    std::copy_n(planes[k_tile % kBase5UnitTiles][plane], 4, words.begin());
  } else {
    std::copy_n(w.words.begin() + 4 * plane_load(n_tile, w.k_tiles, k_tile, w.planes, plane, lane),
                4, words.begin());
  }
  return words;
}

// Sums of one n-tile and the tokens of its 8 columns by bits: column = token * q + plane.
std::vector<int64_t> bits_of_tile(const HostTiles& w, const HostTokens& x, int n_tile) {
  std::vector<int64_t> products(static_cast<size_t>(16 * x.m));
  for (int plane = 0; plane < w.planes; ++plane) {
    Sums sums{};
    for (int k = 0; k < w.k_tiles; ++k) {
      std::array<std::array<uint32_t, 4>, 32> a{};
      std::array<std::array<uint32_t, 2>, 32> b{};
      for (int lane = 0; lane < 32; ++lane) {
        a[static_cast<size_t>(lane)] = plane_words(w, n_tile, k, plane, lane);
        const int column = lane_row(lane);
        if (column >= x.m * x.bits) continue;
        const int64_t pair = token_plane_pair(column / x.bits, w.k_tiles, k, x.bits,
                                              column % x.bits, lane_column(lane));
        for (size_t h = 0; h < 2; ++h)
          b[static_cast<size_t>(lane)][h] = x.planes[static_cast<size_t>(2 * pair) + h];
      }
      bit_product(a, b, sums);
    }
    for (size_t row = 0; row < 16; ++row)
      for (int column = 0; column < x.m * x.bits; ++column)
        products[static_cast<size_t>(column / x.bits) * 16 + row] +=
            sums[row][static_cast<size_t>(column)] << (plane + column % x.bits);
  }
  return products;
}

// A registers of every step of a lane, expanded as kernels do it.
template <int Cap>
std::vector<std::array<uint32_t, 4>> expanded_planes(const HostTiles& w, int n_tile, int lane) {
  std::vector<std::array<uint32_t, 4>> steps;
  for (int k = 0; k < w.k_tiles; ++k) {
    uint32_t words[Cap][4] = {};
    for (int plane = 0; plane < w.planes; ++plane)
      for (int word = 0; word < 4; ++word)
        words[plane][word] = w.words[static_cast<size_t>(
            4 * plane_load(n_tile, w.k_tiles, k, w.planes, plane, lane) + word)];
    merge_planes<Cap>(words);
    for (int step = 0; step < kTileSteps; ++step)
      steps.push_back({field_codes<Cap>(words, step, 0), field_codes<Cap>(words, step, 1),
                       field_codes<Cap>(words, step, 2), field_codes<Cap>(words, step, 3)});
  }
  return steps;
}
std::vector<std::array<uint32_t, 4>> expanded_base5(const HostTiles& w, int n_tile, int lane) {
  std::vector<std::array<uint32_t, 4>> steps(static_cast<size_t>(kTileSteps * w.k_tiles));
  for (int unit = 0; unit < base5_units(w.k_tiles); ++unit) {
    const int tiles = base5_unit_tiles(w.k_tiles, unit);
    Base5UnitPlanes planes;
    base5_planes(w, n_tile, unit, lane, planes);
    for (int tile = 0; tile < tiles; ++tile) {
      uint32_t fields[4][4];
      merge_base5_planes(planes[tile], fields);
      for (int r = 0; r < 4 * kTileSteps; ++r)
        steps[static_cast<size_t>(kTileSteps * (kBase5UnitTiles * unit + tile) + r / 4)]
             [static_cast<size_t>(r % 4)] = field_codes(fields, r / 4, r % 4);
    }
  }
  return steps;
}

// Of all lanes of a row tile.
using TileRegisters = std::array<std::vector<std::array<uint32_t, 4>>, 32>;
TileRegisters expanded_tile(const HostTiles& w, int n_tile) {
  TileRegisters registers;
  for (int lane = 0; lane < 32; ++lane)
    registers[static_cast<size_t>(lane)] = w.encoding == TileEncoding::kBase5
                                               ? expanded_base5(w, n_tile, lane)
                                           : w.planes <= 2 ? expanded_planes<2>(w, n_tile, lane)
                                           : w.planes <= 4 ? expanded_planes<4>(w, n_tile, lane)
                                                           : expanded_planes<8>(w, n_tile, lane);
  return registers;
}

// Products of the k-tiles begin .. end - 1 with up to 8 tokens.
Sums byte_sums(const TileRegisters& registers, const HostTokens& x, int begin, int end) {
  Sums sums{};
  for (int step = kTileSteps * begin; step < kTileSteps * end; ++step) {
    std::array<std::array<uint32_t, 4>, 32> a{};
    std::array<std::array<uint32_t, 2>, 32> b{};
    for (int lane = 0; lane < 32; ++lane) {
      a[static_cast<size_t>(lane)] =
          registers[static_cast<size_t>(lane)][static_cast<size_t>(step)];
      for (int h = 0; h < 2; ++h)  // four bytes of an octet's row
        for (int i = 0; i < 4; ++i)
          b[static_cast<size_t>(lane)][static_cast<size_t>(h)] |=
              static_cast<uint32_t>(
                  x.codes[static_cast<size_t>(((2 * step + h) * kLanes + lane) * 4 + i)])
              << (8 * i);
    }
    byte_product(a, b, sums);
  }
  return sums;
}

std::vector<int64_t> bytes_of_tile(const HostTiles& w, const HostTokens& x, int n_tile) {
  const Sums sums = byte_sums(expanded_tile(w, n_tile), x, 0, w.k_tiles);
  std::vector<int64_t> products;
  for (int token = 0; token < x.m; ++token)
    for (size_t row = 0; row < 16; ++row)
      products.push_back(sums[row][static_cast<size_t>(token)]);
  return products;
}

using LaneSums = std::array<std::array<int32_t, 4>, 32>;  // of a slot

LaneSums slot_of(const Sums& sums) {
  LaneSums slot{};
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i)  // C registers 0, 2, 1, 3 of the lane
      slot[static_cast<size_t>(lane)][static_cast<size_t>(i)] =
          static_cast<int32_t>(sums[static_cast<size_t>(lane_row(lane) + 8 * (i % 2))]
                                   [static_cast<size_t>(2 * lane_column(lane) + i / 2)]);
  return slot;
}

// All blocks of a grid, as bytes_tokens_kernel walks them, with shares of `share_tiles`
// k-tiles: sums [token][16 rows of each tile].
std::vector<int64_t> tokens_of_grid(const HostTiles& w, const HostTokens& x, const TokensGrid& grid,
                                    int share_tiles) {
  std::vector<int64_t> products(static_cast<size_t>(x.m * 16 * w.n_tiles), -1);
  using Memory = std::vector<std::array<int32_t, 4>>;  // of a block
  const auto add = [](std::array<int32_t, 4>& to, const std::array<int32_t, 4>& from) {
    for (size_t i = 0; i < 4; ++i)
      to[i] += from[i];
  };
  for (int cluster = 0; cluster < grid.clusters; ++cluster) {
    std::vector<Memory> shared(static_cast<size_t>(grid.cluster()),
                               Memory(static_cast<size_t>(grid.slots() * kLanes)));
    const int first = grid.first_row(cluster << grid.cluster_log2);
    const int rows = grid.rows(cluster << grid.cluster_log2);
    const bool alone = grid.cluster() == 1;
    for (int rank = 0; rank < grid.cluster(); ++rank) {
      Memory& own = shared[static_cast<size_t>(rank)];
      CHECK(grid.rank((cluster << grid.cluster_log2) + rank) == rank);
      const int warps = grid.first_share(rank + 1) - grid.first_share(rank);
      CHECK(warps <= grid.warps());
      for (int row = 0; row < rows; ++row) {
        const TileRegisters registers = expanded_tile(w, first + row);
        for (int warp = 0; warp < warps; ++warp) {
          const int begin = share_tiles * (grid.first_share(rank) + warp);
          const LaneSums sums =
              slot_of(byte_sums(registers, x, begin, std::min(begin + share_tiles, w.k_tiles)));
          for (int lane = 0; lane < 32; ++lane) {
            add(own[static_cast<size_t>((grid.slot(row) + warp) * kLanes + lane)],
                sums[static_cast<size_t>(lane)]);
            if (alone) continue;
            add(shared[static_cast<size_t>(grid.owner(row))][static_cast<size_t>(
                    (grid.arrival(grid.own_number(row)) + rank) * kLanes + lane)],
                sums[static_cast<size_t>(lane)]);
          }
        }
      }
    }
    for (int rank = 0; rank < grid.cluster(); ++rank)
      for (int i = 0; i < 64 * grid.owned(rows, rank); ++i) {
        if (pair_token(i % 64) >= x.m) continue;
        const int n_tile = first + rank + ((i / 64) << grid.cluster_log2);
        const int at = alone ? grid.slot(i / 64) : grid.arrival(i / 64);
        for (int half = 0; half < 2; ++half) {
          int64_t sum = 0;
          for (int from = 0; from < (alone ? grid.warps() : grid.cluster()); ++from) {
            const int word = ((at + from) * kLanes * 2 + i % 64) * 2 + half;
            sum += shared[static_cast<size_t>(rank)][static_cast<size_t>(word / 4)]
                         [static_cast<size_t>(word % 4)];
          }
          products[static_cast<size_t>((pair_token(i % 64) * w.n_tiles + n_tile) * 16 +
                                       pair_row(i % 64) + 8 * half)] = sum;
        }
      }
  }
  return products;
}

void check_grid(const quant::WeightSpec& spec, int bits, int64_t m, int64_t n, int64_t k,
                int clusters, int cluster, int share_tiles) {
  const quant::QuantizedWeights w = random_weights(spec, n, k, 7);
  const quant::QuantizedTokens x = random_tokens(bits, m, k, 8);
  const std::vector<int64_t> products = quant::reference_code_products(x, w);
  const HostTiles host({&w}, false);
  const int shares = tiles_of(host.k_tiles, share_tiles);
  const std::vector<int64_t> got =
      tokens_of_grid(host, HostTokens(x), tokens_grid(n, shares, clusters, cluster), share_tiles);
  CAPTURE(k);
  CAPTURE(clusters);
  CAPTURE(cluster);
  for (int64_t token = 0; token < m; ++token)
    for (int64_t row = 0; row < 16 * host.n_tiles; ++row)
      REQUIRE(got[static_cast<size_t>(token * 16 * host.n_tiles + row)] ==
              (row < n ? products[static_cast<size_t>(token * n + row)] : 0));
}

void check_tiles(const quant::WeightSpec& spec, int bits, int64_t m, int64_t n, int64_t k) {
  const quant::QuantizedWeights w = random_weights(spec, n, k, 7);
  const quant::QuantizedTokens x = random_tokens(bits, m, k, 8);
  const std::vector<int64_t> products = quant::reference_code_products(x, w);
  const HostTiles tiles({&w}, false);
  const HostTokens tokens(x);
  for (int tile = 0; tile < tiles.n_tiles; ++tile) {
    std::vector<int64_t> expected(static_cast<size_t>(16 * m));
    for (int64_t token = 0; token < m; ++token)
      for (int64_t row = 0; row < std::min<int64_t>(16, n - 16 * tile); ++row)
        expected[static_cast<size_t>(16 * token + row)] =
            products[static_cast<size_t>(token * n + 16 * tile + row)];
    CAPTURE(spec.bits);
    CAPTURE(spec.balanced);
    CAPTURE(bits);
    CAPTURE(k);
    CAPTURE(tile);
    CHECK(bytes_of_tile(tiles, tokens, tile) == expected);
    if (m * bits <= 8) CHECK(bits_of_tile(tiles, tokens, tile) == expected);
  }
}

}  // namespace

TEST_CASE("tiles and tokens in the fragments of the matrix instructions give the code products") {
  for (int p = 1; p <= 8; ++p)
    for (const int q : {1, 3, 4, 8})
      check_tiles({p, false, 0, false}, q, 8 / q, 20, 300);
  check_tiles({1, true, 0, false}, 8, 1, 16, 256);
  check_tiles({8, false, 0, false}, 8, 7, 16, 520);
}

TEST_CASE("clusters share out row tiles and depth so that every code product is counted once") {
  for (const int cluster : {1, 2, 4, 8})
    for (const int clusters : {1, 2, 3}) {
      check_grid({2, false, 0, false}, 8, 8, 70, 1100, clusters, cluster, 2);
      check_grid({3, false, 0, false}, 4, 5, 40, 2400, clusters, cluster, 1);
      check_grid({2, true, 0, false}, 8, 7, 70, 1600, clusters, cluster, 3);
    }
  check_grid({4, false, 0, false}, 5, 2, 20, 200, 2, 8, 1);
  check_grid({1, false, 0, false}, 1, 7, 150, 300, 4, 2, 2);
}

TEST_CASE("fields in place are codes times the power of two of their place") {
  uint32_t words[4][4];
  for (uint32_t i = 0; i < 16; ++i)
    words[i / 4][i % 4] = 0x9e3779b9u * (i + 1);
  for (int step = 0; step < kTileSteps; ++step)
    for (int w = 0; w < 4; ++w)
      CHECK((field_in_place<4>(words, step, w) >> (4 * (step / 4))) ==
            field_codes<4>(words, step, w));
}

TEST_CASE("base-5 units of one, two and three tiles give the code products") {
  for (const int64_t k : {5, 256, 300, 512, 700, 768, 1000, 1280, 1536}) {
    check_tiles({2, true, 0, false}, 8, 3, 24, k);
    check_tiles({2, true, 0, false}, 8, 1, 24, k);
  }
}

TEST_CASE("all triples of base-5 codes come back from their stored words as planes") {
  // A bit position for each of the 125: nothing may depend on the others.
  uint32_t planes[4][kBase5UnitTiles][kBase5Planes] = {};
  for (int x = 0; x < 125; ++x) {
    const int codes[kBase5UnitTiles] = {x / 25, x / 5 % 5, x % 5};
    for (int tile = 0; tile < kBase5UnitTiles; ++tile)
      for (int plane = 0; plane < kBase5Planes; ++plane)
        planes[x / 32][tile][plane] |= static_cast<uint32_t>((codes[tile] >> plane) & 1)
                                       << (x % 32);
  }
  for (const auto& word : planes) {
    uint32_t stored[kBase5UnitLoads] = {};
    uint32_t expanded[kBase5UnitTiles][kBase5Planes] = {};
    pack_base5_triple(word, stored);
    expand_base5_triple(stored, expanded);
    for (int tile = 0; tile < kBase5UnitTiles; ++tile)
      for (int plane = 0; plane < kBase5Planes; ++plane)
        CHECK(expanded[tile][plane] == word[tile][plane]);
  }
}

TEST_CASE("base-5 tiles stay below 2.38 bits a weight at the depths of models") {
  const auto bits = [](int k) {
    return 128.0 * kLanes * base5_row_loads(tiles_of(k, kTileDepth)) / (16.0 * k);
  };
  CHECK(bits(4096) == doctest::Approx(2.375));
  CHECK(bits(11008) < 2.36);
  CHECK(bits(12288) == doctest::Approx(7.0 / 3.0));
}

TEST_CASE("rows of gate and up alternate by eights, stacked rows follow each other") {
  CHECK(tile_row(true, 0, 0, 9) == 17);
  CHECK(tile_row(true, 1, 100, 9) == 25);
  CHECK(tile_row(false, 2, 40, 9) == 49);
}

TEST_CASE("expected outputs of the tests are those of the reference product") {
  for (const quant::WeightSpec& spec :
       {quant::WeightSpec{3, false, 32, false}, quant::WeightSpec{1, false, 0, false},
        quant::WeightSpec{2, true, 128, true}}) {
    const quant::QuantizedWeights w = random_weights(spec, 9, 384, 3);
    const quant::QuantizedTokens x = random_tokens(6, 5, 384, 4);
    std::vector<float> y(45);
    quant::reference_gemm(x, w, MatrixView<float>(y.data(), 5, 9));
    const Expected expected = expected_outputs(x, w, quant::reference_code_products(x, w));
    for (size_t i = 0; i < y.size(); ++i)
      CHECK(std::abs(static_cast<double>(y[i]) - expected.y[i]) <=
            std::abs(expected.y[i]) * kRounding);
  }
}

}  // namespace abq::runtime::cuda
