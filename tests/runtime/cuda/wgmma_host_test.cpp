// The index formulas of the warpgroup kernels, without a device: the instructions are emulated by
// what the PTX ISA says about their fragments and descriptors, on the memory that the kernels'
// copies would make.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <utility>
#include <vector>

#include "quant/reference_gemm.h"
#include "runtime/cuda/linear/base5_tiles.h"
#include "runtime/cuda/linear/plane_fields.h"
#include "runtime/cuda/wgmma/fragments.h"
#include "runtime/cuda/wgmma/schedule.h"
#include "wgmma_cases.h"

namespace abq::runtime::cuda::wgmma {
namespace {

using wgmma_test::Case;

// The address that an operand's descriptor gives for byte `byte` of token `token`: fields of
// 16-byte units at bits 0 (start), 16 (next 16 bytes of depth) and 32 (next 8 tokens).
uint32_t descriptor_address(uint64_t descriptor, int token, int byte) {
  const auto field = [&](int bit) {
    return static_cast<uint32_t>((descriptor >> bit) & 0x3fffu) << 4;
  };
  return field(0) + static_cast<uint32_t>(byte / 16) * field(16) +
         static_cast<uint32_t>(token / 8) * field(32) +
         static_cast<uint32_t>(token % 8 * 16 + byte % 16);
}

struct Emulation {
  Case c;
  quant::QuantizedWeights w;
  quant::QuantizedTokens x;
  wgmma_test::HostWeights weights;
  wgmma_test::HostTokens tokens;
  std::vector<int64_t> expected;

  explicit Emulation(const Case& chosen)
      : c(chosen),
        w(wgmma_test::make_weights(c, 1)),
        x(wgmma_test::make_tokens(c, 2)),
        weights(wgmma_test::pack_weights(c, w)),
        tokens(wgmma_test::pack_tokens(x)),
        expected(quant::reference_code_products(x, w)) {}

  int k_tiles() const { return tiles_of(c.k, kTileDepth); }
  int n_tiles() const { return tiles_of(c.n, kTileRows); }

  // Compares D of a weight tile, d[lane][register].
  void check(int n_tile, int first_token, int token_count,
             const std::vector<std::vector<uint32_t>>& d) const {
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int r = 0; r < token_count / 2; ++r) {
        const int row = 16 * n_tile + d_row(lane, r);
        const int token = first_token + d_token(lane, r);
        if (row >= c.n || token >= c.m) continue;
        CAPTURE(row);
        CAPTURE(token);
        REQUIRE(d[static_cast<size_t>(lane)][static_cast<size_t>(r)] ==
                expected[static_cast<size_t>(token) * static_cast<size_t>(c.n) +
                         static_cast<size_t>(row)]);
      }
    }
  }
};

// A [16 rows][32 bytes] of a warp from its lanes' registers.
using BytesOfRows = uint8_t[16][32];
void gather_bytes(const uint32_t (&registers)[kLanes][4], BytesOfRows& a) {
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int r = 0; r < 4; ++r) {
      for (int b = 0; b < 4; ++b) {
        a[a_row(lane, r)][a_byte_depth(lane, r, b)] =
            static_cast<uint8_t>(registers[lane][r] >> (8 * b));
      }
    }
  }
}

// One wgmma k32 of a warp: adds A B to d.
void multiply_bytes(const BytesOfRows& a, const std::vector<uint8_t>& shared, uint64_t descriptor,
                    int tokens, std::vector<std::vector<uint32_t>>& d) {
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int r = 0; r < tokens / 2; ++r) {
      uint32_t& sum = d[static_cast<size_t>(lane)][static_cast<size_t>(r)];
      for (int i = 0; i < 32; ++i) {
        sum += static_cast<uint32_t>(a[d_row(lane, r)][i]) *
               shared[descriptor_address(descriptor, d_token(lane, r), i)];
      }
    }
  }
}

// A slot of codes at `base`, as the producer copies it: octet after octet.
void copy_stage(const Emulation& e, std::vector<uint8_t>& shared, uint32_t base, int first_token,
                int token_count, int stage) {
  for (int octet = 0; octet < token_count / kCoreTokens; ++octet) {
    std::memcpy(shared.data() + base + static_cast<size_t>(octet) * kOctetStageBytes,
                e.tokens.codes.data() +
                    octet_stage_source(first_token / kCoreTokens + octet, e.k_tiles(), stage),
                kOctetStageBytes);
  }
}

template <class RegistersOf>  // (n tile, step of all K, lane, register) -> register of A
void emulate_bytes(const Emulation& e, int token_count, const RegistersOf& registers_of) {
  constexpr uint32_t kBase = 4096;
  std::vector<uint8_t> shared(kBase + static_cast<size_t>(token_count) * kByteStageDepth);
  for (int first = 0; first < e.c.m; first += token_count) {
    for (int n_tile = 0; n_tile < e.n_tiles(); ++n_tile) {
      std::vector<std::vector<uint32_t>> d(
          kLanes, std::vector<uint32_t>(static_cast<size_t>(token_count / 2)));
      for (int step = 0; step < 8 * e.k_tiles(); ++step) {
        if (step % 4 == 0) copy_stage(e, shared, kBase, first, token_count, step / 4);
        uint32_t registers[kLanes][4];
        for (int lane = 0; lane < kLanes; ++lane) {
          for (int r = 0; r < 4; ++r)
            registers[lane][r] = registers_of(n_tile, step, lane, r);
        }
        BytesOfRows a;
        gather_bytes(registers, a);
        multiply_bytes(
            a, shared,
            b_descriptor(kBase + static_cast<uint32_t>(step_offset(step % 4)), kByteStrides),
            token_count, d);
      }
      e.check(n_tile, first, token_count, d);
    }
  }
}

template <int kFields>
void emulate_planes(const Case& c) {
  const Emulation e(c);
  emulate_bytes(e, 64, [&](int n_tile, int step, int lane, int r) {
    uint32_t fields[kFields][4] = {};
    for (int p = 0; p < c.planes; ++p) {
      const size_t tile = static_cast<size_t>(n_tile) * static_cast<size_t>(e.k_tiles()) +
                          static_cast<size_t>(step / 8);
      for (size_t i = 0; i < 4; ++i) {
        fields[p][i] =
            e.weights
                .tiles[((tile * static_cast<size_t>(c.planes) + static_cast<size_t>(p)) * kLanes +
                        static_cast<size_t>(lane)) *
                           4 +
                       i];
      }
    }
    merge_planes(fields);
    return field_codes(fields, step % 8, r);
  });
}

TEST_CASE("wgmma: planes expanded to bytes meet octets of codes") {
  emulate_planes<2>({.planes = 1, .bits = 8, .m = 65, .n = 40, .k = 300});
  emulate_planes<2>({.planes = 2, .bits = 8, .m = 70, .n = 40, .k = 512});
  emulate_planes<4>({.planes = 3, .bits = 4, .m = 65, .n = 33, .k = 384});
  emulate_planes<8>({.planes = 5, .bits = 8, .m = 65, .n = 17, .k = 64});
  emulate_planes<8>({.planes = 8, .bits = 8, .m = 65, .n = 40, .k = 700});
}

TEST_CASE("wgmma: base-5 units expanded to bytes meet octets of codes") {
  for (const int k : {200, 512, 768, 1000}) {
    CAPTURE(k);
    const Emulation e({.planes = 3, .bits = 8, .balanced = true, .m = 65, .n = 40, .k = k});
    emulate_bytes(e, 64, [&](int n_tile, int step, int lane, int r) {
      const int unit = step / 24;
      const int tiles = base5_unit_tiles(e.k_tiles(), unit);
      Base5UnitWords words = {};
      for (int load = 0; load < base5_loads(tiles); ++load)
        std::copy_n(e.weights.tiles.begin() + 4 * base5_load(n_tile, e.k_tiles(), unit, load, lane),
                    4, words[load]);
      Base5UnitPlanes planes;
      uint32_t fields[4][4];
      expand_base5_unit(words, planes);
      merge_base5_planes(planes[step / 8 % 3], fields);
      return field_codes(fields, step % 8, r);
    });
  }
}

TEST_CASE("wgmma: plane words meet planes of tokens") {
  for (const auto& [p, q] : {std::pair{1, 1}, std::pair{2, 2}, std::pair{1, 3}, std::pair{3, 1}}) {
    CAPTURE(p);
    CAPTURE(q);
    constexpr int kTokens = kPlaneBlockTokens;
    constexpr uint32_t kBase = 2048;
    const Emulation e({.planes = p, .bits = q, .m = 130, .n = 40, .k = 600});
    const uint8_t* const planes = reinterpret_cast<const uint8_t*>(e.tokens.planes.data());
    const uint8_t* const words = reinterpret_cast<const uint8_t*>(e.weights.tiles.data());
    std::vector<uint8_t> shared(kBase + static_cast<size_t>(plane_offset(q)));
    for (int first = 0; first < e.c.m; first += kTokens) {
      for (int n_tile = 0; n_tile < e.n_tiles(); ++n_tile) {
        std::vector<std::vector<uint32_t>> d(kLanes, std::vector<uint32_t>(kTokens / 2));
        for (int kt = 0; kt < e.k_tiles(); ++kt) {
          std::memcpy(shared.data() + kBase,
                      planes + plane_block_source(first / kTokens, e.k_tiles(), kt, q),
                      static_cast<size_t>(plane_offset(q)));
          for (int i = 0; i < p; ++i) {
            // A as bits: [row][256].
            uint8_t a[16][256];
            const size_t tile = ((static_cast<size_t>(n_tile) * static_cast<size_t>(e.k_tiles()) +
                                  static_cast<size_t>(kt)) *
                                     static_cast<size_t>(p) +
                                 static_cast<size_t>(i)) *
                                512;
            for (int lane = 0; lane < kLanes; ++lane) {
              for (int r = 0; r < 4; ++r) {
                uint32_t word;
                std::memcpy(&word, words + tile + bit_words_offset(lane, r / 2) + r % 2 * 4, 4);
                for (int bit = 0; bit < 32; ++bit)
                  a[a_row(lane, r)][a_bit_depth(lane, r, bit)] = (word >> bit) & 1u;
              }
            }
            for (int j = 0; j < q; ++j) {
              const uint64_t b =
                  b_descriptor(kBase + static_cast<uint32_t>(plane_offset(j)), kBitStrides);
              for (int lane = 0; lane < kLanes; ++lane) {
                for (int r = 0; r < kTokens / 2; ++r) {
                  uint32_t count = 0;
                  for (int k = 0; k < 256; ++k) {
                    const uint8_t byte = shared[descriptor_address(b, d_token(lane, r), k / 8)];
                    count += a[d_row(lane, r)][k] & (byte >> (k % 8));
                  }
                  d[static_cast<size_t>(lane)][static_cast<size_t>(r)] += count << (i + j);
                }
              }
            }
          }
        }
        e.check(n_tile, first, kTokens, d);
      }
    }
  }
}

TEST_CASE("wgmma: fragments cover each element of A and D once") {
  std::set<std::pair<int, int>> bytes;
  std::set<std::pair<int, int>> bits;
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int r = 0; r < 4; ++r) {
      for (int b = 0; b < 4; ++b)
        bytes.insert({a_row(lane, r), a_byte_depth(lane, r, b)});
      for (int b = 0; b < 32; ++b)
        bits.insert({a_row(lane, r), a_bit_depth(lane, r, b)});
    }
  }
  CHECK(bytes.size() == 16 * 32);
  CHECK(bits.size() == 16 * 256);
  for (const int tokens : {64, 128, 256}) {
    std::set<std::pair<int, int>> elements;
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int r = 0; r < tokens / 2; ++r) {
        REQUIRE(d_token(lane, r) < tokens);
        elements.insert({d_row(lane, r), d_token(lane, r)});
      }
    }
    CHECK(elements.size() == static_cast<size_t>(16 * tokens));
  }
}

TEST_CASE("wgmma: a schedule visits each block tile once") {
  for (const int tokens : {64, 128, 256}) {
    for (const int cluster : {1, 2}) {
      for (const auto& [m, n] : {std::pair{65, 40}, std::pair{5000, 1000}, std::pair{2048, 4096}}) {
        const Schedule s = make_schedule(m, n, tokens, cluster);
        std::set<std::pair<int, int>> places;
        for (int i = 0; i < schedule_size(s); ++i) {
          const TilePlace place = schedule_place(s, i);
          REQUIRE(place.row_tile * kBlockRows * cluster < n);
          REQUIRE(place.token_tile * tokens < m);
          places.insert({place.row_tile, place.token_tile});
        }
        CHECK(places.size() == static_cast<size_t>(tiles_of(n, kBlockRows * cluster)) *
                                   static_cast<size_t>(tiles_of(m, tokens)));
      }
    }
  }
}

TEST_CASE("wgmma: the plain loops of the device tests are the reference's products") {
  for (const Case& c : {Case{.planes = 5, .bits = 7, .m = 9, .n = 20, .k = 333},
                        Case{.planes = 3, .bits = 8, .balanced = true, .m = 5, .n = 7, .k = 100},
                        Case{.planes = 4, .bits = 4, .group_size = 32, .m = 5, .n = 7, .k = 96}}) {
    const auto w = wgmma_test::make_weights(c, 3);
    const auto x = wgmma_test::make_tokens(c, 4);
    CHECK(wgmma_test::code_products(x, w) == quant::reference_code_products(x, w));
  }
}

TEST_CASE("wgmma: what the device tests expect are the reference's outputs") {
  for (const Case& c : {Case{.planes = 1, .bits = 8, .m = 9, .n = 20, .k = 333},
                        Case{.planes = 3, .bits = 8, .balanced = true, .m = 5, .n = 7, .k = 100},
                        Case{.planes = 4, .bits = 4, .group_size = 32, .m = 5, .n = 7, .k = 96},
                        Case{.planes = 1, .bits = 4, .group_size = 32, .m = 5, .n = 7, .k = 96}}) {
    CAPTURE(wgmma_test::name_of(c));
    const auto w = wgmma_test::make_weights(c, 3);
    const auto x = wgmma_test::make_tokens(c, 4);
    std::vector<float> y(static_cast<size_t>(c.m * c.n));
    quant::reference_gemm(x, w, MatrixView<float>(y.data(), c.m, c.n));
    const auto expected = wgmma_test::expected_output(c, x, w, wgmma_test::code_products(x, w), {});
    for (size_t i = 0; i < y.size(); ++i)
      REQUIRE(std::abs(static_cast<double>(y[i]) - expected.y[i]) <= expected.tolerance[i]);
  }
}

}  // namespace
}  // namespace abq::runtime::cuda::wgmma
