// The AVX-512 GEMM: vpdpbusd of panels (16 tokens x 4 codes, unsigned) with one broadcast four of a
// weight row (signed).
#include "runtime/cpu/gemm_avx512.h"

#include "runtime/cpu/expand_avx512.h"

namespace abq::runtime {
namespace {

template <int P>
void expand_bytes(const uint8_t* block, int64_t units, void* tile_rows) {
  int8_t* rows = static_cast<int8_t*>(tile_rows);
  for (int64_t i = 0; i < units * kBlockRows; ++i) {
    __m512i halves[2];
    expand_unit<P>(block + i * 16 * P, halves);
    int8_t* out = rows + i % kBlockRows * kTileCodes + i / kBlockRows * kUnitCodes;
    _mm512_storeu_si512(out, halves[0]);
    _mm512_storeu_si512(out + 64, halves[1]);
  }
}

// acc[row][panel] += w x over `fours` fours of codes.
template <int Rows, int Panels>
inline void multiply(const int8_t* w, const uint8_t* x, int64_t panel_stride, int64_t fours,
                     __m512i acc[Rows][Panels]) {
  for (int64_t q = 0; q < fours; ++q, x += 64, w += 4) {
    __m512i tokens[Panels];
    for (int p = 0; p < Panels; ++p)
      tokens[p] = load512(x + p * panel_stride);
    for (int r = 0; r < Rows; ++r) {
      int32_t four;
      __builtin_memcpy(&four, w + r * kTileCodes, 4);
      const __m512i weights = _mm512_set1_epi32(four);
      for (int p = 0; p < Panels; ++p)
        acc[r][p] = _mm512_dpbusd_epi32(acc[r][p], tokens[p], weights);
    }
  }
}

template <int Rows, int Panels>
void multiply_channel(const GemmArgs& a, int row, int panel) {
  int32_t* sums = static_cast<int32_t*>(a.sums) + (panel * kTileRows + row) * kPanelTokens;
  __m512i acc[Rows][Panels];
  for (int r = 0; r < Rows; ++r)
    for (int p = 0; p < Panels; ++p)
      acc[r][p] =
          a.first ? _mm512_setzero_si512() : load512(sums + (p * kTileRows + r) * kPanelTokens);
  multiply<Rows, Panels>(static_cast<const int8_t*>(a.tile) + row * kTileCodes,
                         a.panels + panel * a.panel_stride, a.panel_stride, a.codes / 4, acc);
  for (int r = 0; r < Rows; ++r)
    for (int p = 0; p < Panels; ++p)
      _mm512_storeu_si512(sums + (p * kTileRows + r) * kPanelTokens, acc[r][p]);
}

// Per group: (sum - zero token_sum) is exact in float32 (below 2^24), then scaled and added.
template <int Rows>
void multiply_groups(const GemmArgs& a, int row, int panel) {
  float* sums = static_cast<float*>(a.sums) + (panel * kTileRows + row) * kPanelTokens;
  const uint8_t* x = a.panels + panel * a.panel_stride;
  const float* token_sums = a.token_sums + panel * a.token_sums_stride;
  const int64_t group_fours = kUnitCodes / 4 / a.groups_per_unit;
  const int64_t groups = a.codes / kUnitCodes * a.groups_per_unit;
  __m512 total[Rows];
  for (int r = 0; r < Rows; ++r)
    total[r] = a.first ? _mm512_setzero_ps() : _mm512_loadu_ps(sums + r * kPanelTokens);
  for (int64_t g = 0; g < groups; ++g) {
    __m512i acc[Rows][1];
    for (int r = 0; r < Rows; ++r)
      acc[r][0] = _mm512_setzero_si512();
    multiply<Rows, 1>(static_cast<const int8_t*>(a.tile) + row * kTileCodes + 4 * g * group_fours,
                      x + 64 * g * group_fours, 0, group_fours, acc);
    const __m512 token_sum = _mm512_loadu_ps(token_sums + g * kPanelTokens);
    for (int r = 0; r < Rows; ++r) {
      const int64_t entry =
          (row + r) / kBlockRows * a.block_stride +
          (g / a.groups_per_unit * kBlockRows + (row + r) % kBlockRows) * a.groups_per_unit +
          g % a.groups_per_unit;
      const __m512 sum = _mm512_fnmadd_ps(_mm512_set1_ps(a.zeros[entry]), token_sum,
                                          _mm512_cvtepi32_ps(acc[r][0]));
      total[r] = _mm512_fmadd_ps(_mm512_set1_ps(a.scales[entry]), sum, total[r]);
    }
  }
  for (int r = 0; r < Rows; ++r)
    _mm512_storeu_ps(sums + r * kPanelTokens, total[r]);
}

void run_channels(const GemmArgs& a) {
  int panel = 0;
  for (; panel + 2 <= a.panel_count; panel += 2) {
    int row = 0;
    for (; row + 8 <= a.rows; row += 8)
      multiply_channel<8, 2>(a, row, panel);
    if (row < a.rows) multiply_channel<4, 2>(a, row, panel);
  }
  if (panel < a.panel_count) {
    int row = 0;
    for (; row + 8 <= a.rows; row += 8)
      multiply_channel<8, 1>(a, row, panel);
    if (row < a.rows) multiply_channel<4, 1>(a, row, panel);
  }
}

void run_groups(const GemmArgs& a) {
  for (int panel = 0; panel < a.panel_count; ++panel) {
    int row = 0;
    for (; row + 8 <= a.rows; row += 8)
      multiply_groups<8>(a, row, panel);
    if (row < a.rows) multiply_groups<4>(a, row, panel);
  }
}

using Expand = void (*)(const uint8_t*, int64_t, void*);
constexpr Expand kExpand[9] = {nullptr,         expand_bytes<1>, expand_bytes<2>,
                               expand_bytes<3>, expand_bytes<4>, expand_bytes<5>,
                               expand_bytes<6>, expand_bytes<7>, expand_bytes<8>};

}  // namespace

GemmPlan avx512_gemm_plan(int code_bits, int /*max_token_code*/, bool grouped) {
  GemmPlan plan = {};
  plan.expand = kExpand[code_bits];
  plan.run = grouped ? run_groups : run_channels;
  plan.centre = code_bits == 8 ? 128 : 0;
  plan.bytes_per_code = 1;
  plan.min_tokens = 12;
  return plan;
}

}  // namespace abq::runtime
