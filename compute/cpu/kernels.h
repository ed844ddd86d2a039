// The CPU device's single-threaded kernels, one table per instruction set level.
//
// The same sources (compute/cpu/isa/) are compiled once per level with that level's compiler flags,
// each into a namespace of its own, and meet the rest of the program only through this table. Two
// rules keep wide instructions out of code that older machines run: those sources define nothing
// but functions of internal linkage, and they use no inline function or template of any other
// header (the linker would be free to keep their copy for the whole program). The CTest entry
// "compute: isa objects ..." reads the symbol tables and refuses a weak symbol.
#pragma once

#include <cstdint>

#include "compute/cpu/tensor_kernels.h"
#include "compute/device.h"
#include "support/cpu_features.h"

namespace abq::compute {

// Bounds that every level shares, so that scratch can be sized without knowing the level.
constexpr int64_t kGemmDepthBlock = 256;  // k summed in registers before C is touched
constexpr int64_t kGemmMaxRows = 280;     // rows of A in one call
constexpr int64_t kGemmMaxPanel = 32;     // columns of the widest micro-tile
// Floats: a block of A, a packed panel, and the panel's weights before packing.
constexpr int64_t kGemmScratch = kGemmDepthBlock * (kGemmMaxRows + 2 * kGemmMaxPanel);
static_assert(kGemmDepthBlock % WeightSource::kColStep == 0);

// C[rows, cols] = A[rows, depth] B (+ C if accumulate), where B is given as W[cols, depth] in any
// float type (C = A W^T), as a source of W's values, or as a float32 B[depth, cols]. Strides are in
// elements. An element of C depends on its own row of A and column of B alone, whatever tile it is
// computed in.
struct GemmTile {
  const float* a = nullptr;
  int64_t a_stride = 0;
  int64_t rows = 0;  // at most kGemmMaxRows
  const void* b = nullptr;
  int64_t b_stride = 0;
  FloatType b_type = FloatType::kF32;
  bool b_is_depth_by_cols = false;
  const WeightSource* source = nullptr;  // instead of b, from row `source_row` of W
  int64_t source_row = 0;
  int64_t cols = 0;
  int64_t depth = 0;
  float* c = nullptr;
  int64_t c_stride = 0;
  bool accumulate = false;
  float* scratch = nullptr;  // kGemmScratch floats
};

constexpr int64_t kAttentionKeys = 256;  // keys per softmax step
constexpr int64_t kAttentionRows = 256;  // most score rows (heads x queries) of one block
constexpr int64_t kAttentionHeads = 4;   // most heads of one group in one block
constexpr int64_t kAttentionQueries = kAttentionRows / kAttentionHeads;

// `queries` consecutive query rows of `heads` heads that share one key/value head. q and y point at
// the first row's first head, k and v at key 0 of the shared head. Query r sits at position
// first_position + r and sees the keys before it, itself and the window included.
struct AttentionBlock {
  const float* q = nullptr;
  int64_t q_stride = 0;
  const float* k = nullptr;
  int64_t k_stride = 0;
  const float* v = nullptr;
  int64_t v_stride = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t heads = 0;
  int64_t queries = 0;
  int64_t head_dim = 0;
  int64_t first_position = 0;
  int64_t window = 0;        // 0 = no limit
  float* scratch = nullptr;  // attention_block_scratch() floats
};

constexpr int64_t attention_block_scratch(int64_t head_dim) {
  return kGemmScratch + kAttentionRows * (kAttentionKeys + 2 * head_dim + 2);
}

constexpr int64_t attention_row_scratch(int64_t keys, int64_t head_dim) {
  return kAttentionHeads * (keys + head_dim);
}

// `count` floats of one row as segments of order * length; each becomes H x * scale, in place
// (compute/hadamard.h).
struct HadamardRow {
  float* x = nullptr;
  int64_t count = 0;           // a multiple of order * length
  int64_t order = 1;           // 1, or a multiple of 4
  int64_t length = 1;          // a power of two
  const float* mix = nullptr;  // [order, order], where order is not 1
  float scale = 1;
  float* scratch = nullptr;  // order * length floats, where order is not 1
};

struct Kernels {
  int64_t gemm_row_step;  // height and width of the micro-tile: tiles are best a multiple of them
  int64_t gemm_col_step;

  void (*gemm_tile)(const GemmTile& tile);
  // y[n] = sum_k w[n, k] x[k] for n < rows.
  void (*gemv)(FloatType type, const void* w, int64_t w_stride, int64_t rows, int64_t cols,
               const float* x, float* y);
  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t count, float* y);
  void (*silu_mul)(const float* gate, const float* up, int64_t count, float* y);
  void (*add)(const float* a, const float* b, int64_t count, float* y);
  // One row of `heads` heads; cosines and sines have head_dim / 2 entries.
  void (*rope)(float* x, int64_t heads, int64_t head_dim, const float* cosines, const float* sines);
  void (*hadamard)(const HadamardRow& row);
  void (*attention_block)(const AttentionBlock& block);
  // The same for queries = 1, without the matrix product's packing; scratch holds
  // attention_row_scratch() floats.
  void (*attention_row)(const AttentionBlock& block);
  void (*to_float)(FloatType type, const void* in, int64_t count, float* out);
  // The sum of `count` floats, read as fast as memory gives them: the floor of benchmarks.
  float (*sum)(const float* values, int64_t count);
  const TensorKernels* tensor;
};

// The table of a level; null where this build has none. kAmx shares the table of kAvx512. Calling
// a table that the machine cannot execute is the caller's fault.
const Kernels* kernels_for(CpuIsa isa);

namespace baseline {
extern const Kernels kKernels;
}
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}

}  // namespace abq::compute
