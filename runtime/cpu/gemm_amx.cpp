// The AMX GEMM: tdpbsud of 16 weight rows x 64 codes (signed) with a panel of 64 codes x 16 tokens
// (unsigned), two by two tiles of sums at a time. Groups take the AVX-512 kernels: a group ends
// before a tile pays off.
#include <immintrin.h>

#include "runtime/cpu/gemm_avx512.h"

namespace abq::runtime {
namespace {

// Palette 1, eight tiles of 16 rows x 64 bytes.
struct TileConfig {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t column_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);
alignas(64) constexpr TileConfig kConfig = {
    1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

constexpr int kSumStride = kPanelTokens * 4;  // bytes
constexpr int64_t kTileSums = 16 * kPanelTokens;
constexpr int64_t kPanelSums = int64_t{kTileRows} * kPanelTokens;

// Sums of 32 rows x 32 tokens: tiles 0..3 = (rows, panel) 00, 01, 10, 11.
void multiply_2x2(const GemmArgs& a, int row, int panel) {
  int32_t* s = static_cast<int32_t*>(a.sums) + panel * kPanelSums + row * kPanelTokens;
  if (a.first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, s, kSumStride);
    _tile_loadd(1, s + kPanelSums, kSumStride);
    _tile_loadd(2, s + kTileSums, kSumStride);
    _tile_loadd(3, s + kPanelSums + kTileSums, kSumStride);
  }
  const int8_t* w = static_cast<const int8_t*>(a.tile) + row * kTileCodes;
  const uint8_t* x = a.panels + panel * a.panel_stride;
  for (int64_t at = 0; at < a.codes; at += 64, w += 64, x += 64 * kPanelTokens) {
    _tile_loadd(4, w, kTileCodes);
    _tile_loadd(5, w + 16 * kTileCodes, kTileCodes);
    _tile_loadd(6, x, 64);
    _tile_loadd(7, x + a.panel_stride, 64);
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
  }
  _tile_stored(0, s, kSumStride);
  _tile_stored(1, s + kPanelSums, kSumStride);
  _tile_stored(2, s + kTileSums, kSumStride);
  _tile_stored(3, s + kPanelSums + kTileSums, kSumStride);
}

// The last odd panel.
void multiply_2x1(const GemmArgs& a, int row, int panel) {
  int32_t* s = static_cast<int32_t*>(a.sums) + panel * kPanelSums + row * kPanelTokens;
  if (a.first) {
    _tile_zero(0);
    _tile_zero(2);
  } else {
    _tile_loadd(0, s, kSumStride);
    _tile_loadd(2, s + kTileSums, kSumStride);
  }
  const int8_t* w = static_cast<const int8_t*>(a.tile) + row * kTileCodes;
  const uint8_t* x = a.panels + panel * a.panel_stride;
  for (int64_t at = 0; at < a.codes; at += 64, w += 64, x += 64 * kPanelTokens) {
    _tile_loadd(4, w, kTileCodes);
    _tile_loadd(5, w + 16 * kTileCodes, kTileCodes);
    _tile_loadd(6, x, 64);
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(2, 5, 6);
  }
  _tile_stored(0, s, kSumStride);
  _tile_stored(2, s + kTileSums, kSumStride);
}

// Rows are covered in pairs of tiles (kTileRows is a multiple of 32); sums of rows beyond `rows`
// are computed and never read.
void run(const GemmArgs& a) {
  _tile_loadconfig(&kConfig);
  int panel = 0;
  for (; panel + 2 <= a.panel_count; panel += 2)
    for (int row = 0; row < a.rows; row += 32)
      multiply_2x2(a, row, panel);
  if (panel < a.panel_count) {
    for (int row = 0; row < a.rows; row += 32)
      multiply_2x1(a, row, panel);
  }
  _tile_release();
}

}  // namespace

GemmPlan amx_gemm_plan(int code_bits, int max_token_code, bool grouped) {
  GemmPlan plan = avx512_gemm_plan(code_bits, max_token_code, grouped);
  if (!grouped) {
    plan.run = run;
    plan.min_tokens = 6;
  }
  return plan;
}

}  // namespace abq::runtime
