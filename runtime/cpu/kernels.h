// The inner kernels, one table per instruction set.
//
// Each table lives in translation units of its own, compiled for that instruction set. Those units
// see nothing but this header, kernels_shared.h and the intrinsics: an inline function of a shared
// header compiled there could be the copy that the linker keeps for old machines too.
//
// Weight codes of p bits (1..8) lie in "fields" of 8, 4, 2 and 1 bits, in units of 128 codes along
// K; codes beyond K are 0. A unit of one row takes 16 p bytes:
//
//   p = 8        128 bytes, code ^ 0x80 (that is, code - 128 as a signed byte)
//   bit 2 of p   64 bytes, byte j:  code j in bits 0-3, code j + 64 in bits 4-7
//   bit 1 of p   32 bytes, byte j:  codes j, j + 32, j + 64, j + 96, two bits each
//   bit 0 of p   16 bytes, byte j:  codes j, j + 16, ..., j + 112, one bit each
//
// The first field that p has holds the lowest bits of a code (p = 7: 4 + 2 + 1). Four rows form a
// block, stored [unit][row]: a block is one stream of memory. Scales and zero points of groups lie
// [unit][row][group of the unit] in a block, padded to 16 entries with zeros.
//
// Activation codes lie in rows padded with 0 to whole units, and for the GEMM also in panels of 16
// tokens: [K / 4][token][4].
//
// Float activations are block fixed point for the dot products: in each unit, integers of at most
// 24 bits times one step, a power of two. Half a step is at most 2^-23 of the unit's largest
// magnitude (2^-22 just below a power of two), about what float32 sums round away when they add
// it. An integer is three balanced digits, d0 + 256 d1 + 65536 d2, -128 <= d < 128, so that a dot
// product with weight codes is three exact byte products. They lie as [unit][digit][128] bytes.
#pragma once

#include <cstdint>

namespace abq {
enum class CpuIsa;
}

namespace abq::runtime {

inline constexpr int kUnitCodes = 128;
inline constexpr int kBlockRows = 4;
inline constexpr int kPanelTokens = 16;
// Bytes of a unit of float activations.
inline constexpr int kDigitBytes = 3 * kUnitCodes;
// One call of the GEMM covers up to this many rows and panels, over up to this many codes.
inline constexpr int kTileRows = 64;
inline constexpr int kTilePanels = 16;
inline constexpr int kTileCodes = 1024;

// A block of four weight rows against `count` tokens (count <= kDotTokens).
inline constexpr int kDotTokens = 8;
struct DotArgs {
  const uint8_t* weights = nullptr;
  int64_t units = 0;
  const void* tokens = nullptr;  // uint8 codes, or int8 digits of float activations
  int64_t token_stride = 0;      // in bytes
  int count = 0;
  const float* token_steps = nullptr;  // [units] of each token; digits only
  int64_t token_steps_stride = 0;
  const float* scales = nullptr;  // grouped kernels only
};

// One tile of the GEMM: sums[panel][kTileRows][16] of `rows` expanded weight rows and `panels`.
struct GemmArgs {
  const void* tile = nullptr;  // [kTileRows][kTileCodes] as GemmPlan::expand left them
  int rows = 0;                // a multiple of 4
  const uint8_t* panels = nullptr;
  int64_t panel_stride = 0;  // bytes
  int panel_count = 0;
  int64_t codes = 0;   // a multiple of 128
  bool first = false;  // start from zero instead of adding
  void* sums = nullptr;
  // Groups: sums are floats, sum_g scale (sum (q - centre) x - zero sum x).
  const float* scales = nullptr;
  const float* zeros = nullptr;       // zero point - centre, laid out as the scales
  int64_t block_stride = 0;           // entries between blocks of four rows
  int groups_per_unit = 0;            // 0 = per channel: sums are int32, sum (q - centre) x
  const float* token_sums = nullptr;  // [panel][group][16], from the first group of this tile
  int64_t token_sums_stride = 0;      // between panels
};

// How the GEMM treats one pair of widths. (No default values here and in Kernels: they would make
// an inline constructor, which must not be compiled for one instruction set.)
struct GemmPlan {
  // One block of four rows, `units` units, to four tile rows of codes - centre.
  void (*expand)(const uint8_t* block, int64_t units, void* tile_rows);
  void (*run)(const GemmArgs& args);
  int centre;
  int chain;  // byte products that an int16 holds (AVX2)
  int bytes_per_code;
  int min_tokens;  // faster than the GEMV from here on
};

// Per-channel epilogue of one panel of a tile:
//   y[t][r] = (sum d - zero[r] token_sum[t] + token_zero[t] row_term[r]) scale[r] token_scale[t]
struct FinishArgs {
  const int32_t* sums = nullptr;  // [rows][16]
  int rows = 0;                   // rows wanted
  int tokens = 0;                 // tokens wanted
  int denominator = 1;            // d
  const int32_t* zeros = nullptr;
  const int32_t* row_terms = nullptr;
  const float* scales = nullptr;
  const int32_t* token_sums = nullptr;
  const int32_t* token_zeros = nullptr;
  const float* token_scales = nullptr;
  float* y = nullptr;
  int64_t y_stride = 0;
};

struct Kernels {
  const char* name;     // "avx2"
  int gemm_min_tokens;  // panels are made from here on; 0 = there is no GEMM
  // Indexed by code bits. Sums are of (code - dot_centre): int32 [token][4].
  int dot_centre[9];
  void (*dot[9])(const DotArgs& args, int32_t* sums);
  // [code bits][log2 of groups per unit]: sum_g scale_g sum (code - dot_centre) x, float
  // [token][4].
  void (*grouped_dot[9][3])(const DotArgs& args, float* sums);
  // [code bits][0 = per channel, 1 + log2 of groups per unit]: sum_u step_u sum (code -
  // float_centre) x, times the groups' scales; float [token][4]. A token's sums do not depend on
  // the tokens beside it.
  void (*float_dot[9][4])(const DotArgs& args, float* sums);
  int float_centre[9];
  // Whole units of floats to digits, steps[units] and the sums of each 32 integers. The step of a
  // unit with NaN or infinity is NaN.
  void (*split_floats)(const float* values, int64_t units, int8_t* digits, float* steps,
                       int32_t* sums32);
  // One block of four rows to code - expand_centre, int8 rows [4][stride].
  int expand_centre[9];
  void (*expand[9])(const uint8_t* block, int64_t units, int8_t* rows, int64_t stride);
  GemmPlan (*gemm_plan)(int code_bits, int max_token_code, bool grouped);
  void (*finish)(const FinishArgs& args);
  // out[4] = per row sum_i scales[i] (zeros[i] zero_scale - centre) token_sums[i] over `count`
  // entries, a multiple of 16, laid out as a block's scales.
  void (*zero_terms)(const float* scales, const uint8_t* zeros, const float* token_sums,
                     int64_t count, int groups_per_unit, float zero_scale, float centre,
                     float* out);
  // row[i] = scale (code[i] - zero).
  void (*dequantize)(const int8_t* codes, int64_t count, float scale, float zero, float* row);
  // Smallest and largest of 0 and the values.
  void (*min_max)(const float* values, int64_t count, float* low, float* high);
  // codes[i] = clamp(round(values[i] / scale) + zero, 0, max_code).
  void (*quantize)(const float* values, int64_t count, float scale, int zero, int max_code,
                   uint8_t* codes);
  // sums[i] of 32 codes each.
  void (*sum32)(const uint8_t* codes, int64_t sums_count, int32_t* sums);
  // sum_{i,j} 2^(i+j) popcount(w_i AND x_j) over planes of `bytes` bytes, a multiple of 64.
  int64_t (*bit_dot)(const uint8_t* w, int w_planes, const uint8_t* x, int x_planes, int64_t bytes);
};

// Tables of the instruction sets that this build has.
const Kernels& baseline_kernels();
#if defined(__x86_64__)
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
const Kernels& amx_kernels();
#endif

const Kernels& kernels_for(CpuIsa isa);

}  // namespace abq::runtime
