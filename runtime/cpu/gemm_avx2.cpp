// The AVX2 GEMM: expanded weight rows against panels of 16 tokens.
//
// Two inner loops. Where an int16 holds at least one pair of byte products, vpmaddubsw sums `chain`
// of them before they are widened; centred weights make chains longer (4 bits: 8). Otherwise (8 x 8
// bits) weights are expanded to int16 in the order k, k + 2, k + 1, k + 3 of each four, so that the
// even and the odd bytes of a panel meet their weights in one vpmaddwd each.
#include "runtime/cpu/gemm_avx2.h"

#include "runtime/cpu/expand_avx2.h"

namespace abq::runtime {
namespace {

constexpr int centre_of(int code_bits) {
  return code_bits == 1 ? 0 : 1 << (code_bits - 1);
}

template <int P>
inline void expand_centred(const uint8_t* unit, __m256i out[4]) {
  expand_unit<P>(unit, out);
  // 8-bit codes are stored centred.
  if constexpr (P > 1 && P < 8) {
    for (int i = 0; i < 4; ++i)
      out[i] = _mm256_sub_epi8(out[i], _mm256_set1_epi8(centre_of(P)));
  }
}

template <int P>
void expand_bytes(const uint8_t* block, int64_t units, void* tile_rows) {
  int8_t* rows = static_cast<int8_t*>(tile_rows);
  for (int64_t i = 0; i < units * kBlockRows; ++i) {
    __m256i parts[4];
    expand_centred<P>(block + i * 16 * P, parts);
    int8_t* out = rows + i % kBlockRows * kTileCodes + i / kBlockRows * kUnitCodes;
    for (int j = 0; j < 4; ++j)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 32 * j), parts[j]);
  }
}

// int16, each four in the order 0, 2, 1, 3.
void expand_words8(const uint8_t* block, int64_t units, void* tile_rows) {
  int16_t* rows = static_cast<int16_t*>(tile_rows);
  const __m128i order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
  for (int64_t i = 0; i < units * kBlockRows; ++i) {
    const uint8_t* unit = block + i * kUnitCodes;
    int16_t* out = rows + i % kBlockRows * kTileCodes + i / kBlockRows * kUnitCodes;
    for (int j = 0; j < kUnitCodes; j += 16) {
      const __m128i codes =
          _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(unit + j)), order);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + j), _mm256_cvtepi8_epi16(codes));
    }
  }
}

inline __m256i broadcast_dword(const void* p) {
  return _mm256_castps_si256(_mm256_broadcast_ss(static_cast<const float*>(p)));
}

// acc[row][half panel] += w x over `fours` fours of codes.
template <int Rows, int Chain>
inline void multiply_bytes(const int8_t* w, const uint8_t* x, int64_t fours, __m256i acc[Rows][2]) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t q = 0; q < fours; q += Chain) {
    __m256i products[Rows][2];
    for (int c = 0; c < Chain; ++c, x += 64, w += 4) {
      const __m256i x0 = load256(x);
      const __m256i x1 = load256(x + 32);
      for (int r = 0; r < Rows; ++r) {
        const __m256i wr = broadcast_dword(w + r * kTileCodes);
        const __m256i p0 = _mm256_maddubs_epi16(x0, wr);
        const __m256i p1 = _mm256_maddubs_epi16(x1, wr);
        products[r][0] = c == 0 ? p0 : _mm256_add_epi16(products[r][0], p0);
        products[r][1] = c == 0 ? p1 : _mm256_add_epi16(products[r][1], p1);
      }
    }
    for (int r = 0; r < Rows; ++r)
      for (int h = 0; h < 2; ++h)
        acc[r][h] = _mm256_add_epi32(acc[r][h], _mm256_madd_epi16(products[r][h], ones));
  }
}

template <int Rows>
inline void multiply_words(const int16_t* w, const uint8_t* x, int64_t fours,
                           __m256i acc[Rows][2]) {
  const __m256i low_bytes = _mm256_set1_epi16(255);
  for (int64_t q = 0; q < fours; ++q, x += 64, w += 4) {
    const __m256i x0 = load256(x);
    const __m256i x1 = load256(x + 32);
    const __m256i even[2] = {_mm256_and_si256(x0, low_bytes), _mm256_and_si256(x1, low_bytes)};
    const __m256i odd[2] = {_mm256_srli_epi16(x0, 8), _mm256_srli_epi16(x1, 8)};
    for (int r = 0; r < Rows; ++r) {
      const __m256i w02 = broadcast_dword(w + r * kTileCodes);
      const __m256i w13 = broadcast_dword(w + r * kTileCodes + 2);
      for (int h = 0; h < 2; ++h) {
        acc[r][h] = _mm256_add_epi32(acc[r][h], _mm256_madd_epi16(even[h], w02));
        acc[r][h] = _mm256_add_epi32(acc[r][h], _mm256_madd_epi16(odd[h], w13));
      }
    }
  }
}

// Chain 0: int16 tile.
template <int Rows, int Chain>
inline void multiply(const GemmArgs& a, int row, const uint8_t* x, int64_t at, int64_t fours,
                     __m256i acc[Rows][2]) {
  if constexpr (Chain == 0) {
    multiply_words<Rows>(static_cast<const int16_t*>(a.tile) + row * kTileCodes + 4 * at,
                         x + 64 * at, fours, acc);
  } else {
    multiply_bytes<Rows, Chain>(static_cast<const int8_t*>(a.tile) + row * kTileCodes + 4 * at,
                                x + 64 * at, fours, acc);
  }
}

template <int Rows, int Chain>
void multiply_channel(const GemmArgs& a, int row, int panel) {
  int32_t* sums = static_cast<int32_t*>(a.sums) + (panel * kTileRows + row) * kPanelTokens;
  __m256i acc[Rows][2];
  for (int r = 0; r < Rows; ++r)
    for (int h = 0; h < 2; ++h)
      acc[r][h] = a.first ? _mm256_setzero_si256() : load256(sums + r * kPanelTokens + 8 * h);
  multiply<Rows, Chain>(a, row, a.panels + panel * a.panel_stride, 0, a.codes / 4, acc);
  for (int r = 0; r < Rows; ++r)
    for (int h = 0; h < 2; ++h)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + r * kPanelTokens + 8 * h), acc[r][h]);
}

// Per group: (sum - zero token_sum) is exact in float32 (below 2^24), then scaled and added.
template <int Rows, int Chain>
void multiply_groups(const GemmArgs& a, int row, int panel) {
  float* sums = static_cast<float*>(a.sums) + (panel * kTileRows + row) * kPanelTokens;
  const uint8_t* x = a.panels + panel * a.panel_stride;
  const float* token_sums = a.token_sums + panel * a.token_sums_stride;
  const int64_t group_fours = kUnitCodes / 4 / a.groups_per_unit;
  const int64_t groups = a.codes / kUnitCodes * a.groups_per_unit;
  __m256 total[Rows][2];
  for (int r = 0; r < Rows; ++r)
    for (int h = 0; h < 2; ++h)
      total[r][h] =
          a.first ? _mm256_setzero_ps() : _mm256_loadu_ps(sums + r * kPanelTokens + 8 * h);
  for (int64_t g = 0; g < groups; ++g) {
    __m256i acc[Rows][2];
    for (int r = 0; r < Rows; ++r)
      acc[r][0] = acc[r][1] = _mm256_setzero_si256();
    multiply<Rows, Chain>(a, row, x, g * group_fours, group_fours, acc);
    for (int r = 0; r < Rows; ++r) {
      const int64_t entry =
          (row + r) / kBlockRows * a.block_stride +
          (g / a.groups_per_unit * kBlockRows + (row + r) % kBlockRows) * a.groups_per_unit +
          g % a.groups_per_unit;
      const __m256 scale = _mm256_broadcast_ss(a.scales + entry);
      const __m256 zero = _mm256_broadcast_ss(a.zeros + entry);
      for (int h = 0; h < 2; ++h) {
        const __m256 token_sum = _mm256_loadu_ps(token_sums + g * kPanelTokens + 8 * h);
        const __m256 sum = _mm256_fnmadd_ps(zero, token_sum, _mm256_cvtepi32_ps(acc[r][h]));
        total[r][h] = _mm256_fmadd_ps(scale, sum, total[r][h]);
      }
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int h = 0; h < 2; ++h)
      _mm256_storeu_ps(sums + r * kPanelTokens + 8 * h, total[r][h]);
}

template <int Chain>
void run(const GemmArgs& a) {
  constexpr int kRows = Chain == 0 ? 4 : 2;
  for (int panel = 0; panel < a.panel_count; ++panel) {
    for (int row = 0; row < a.rows; row += kRows) {
      if (a.groups_per_unit == 0) {
        multiply_channel<kRows, Chain>(a, row, panel);
      } else {
        multiply_groups<kRows, Chain>(a, row, panel);
      }
    }
  }
}

using Expand = void (*)(const uint8_t*, int64_t, void*);
constexpr Expand kExpand[9] = {nullptr,         expand_bytes<1>, expand_bytes<2>,
                               expand_bytes<3>, expand_bytes<4>, expand_bytes<5>,
                               expand_bytes<6>, expand_bytes<7>, expand_bytes<8>};

}  // namespace

GemmPlan avx2_gemm_plan(int code_bits, int max_token_code, bool /*grouped*/) {
  GemmPlan plan = {};
  const int max_weight = code_bits == 1 ? 1 : 1 << (code_bits - 1);
  plan.centre = code_bits == 8 ? 128 : centre_of(code_bits);
  plan.chain = 32767 / (2 * max_weight * max_token_code);
  plan.min_tokens = 11;
  plan.bytes_per_code = plan.chain == 0 ? 2 : 1;
  plan.expand = plan.chain == 0 ? expand_words8 : kExpand[code_bits];
  plan.run = plan.chain >= 8   ? run<8>
             : plan.chain >= 4 ? run<4>
             : plan.chain >= 2 ? run<2>
             : plan.chain == 1 ? run<1>
                               : run<0>;
  return plan;
}

}  // namespace abq::runtime
