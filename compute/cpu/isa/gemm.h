// The packed, register-blocked matrix product and the matrix-vector product.
//
//   depth is cut into blocks of kGemmDepthBlock; for each block
//     A's rows are copied next to each other            (strided rows would share few cache sets)
//     for each panel of kMicroCols columns of B
//       the panel is packed as [depth][kMicroCols]       (stays in the first-level cache)
//       for each kMicroRows rows of A: C tile += A rows x panel, all sums in registers
#pragma once

#include "compute/cpu/isa/vector.h"

namespace abq::compute::ABQ_ISA_NAMESPACE {
namespace {

// C[kRows, kMicroCols] (+)= A[kRows, depth] panel[depth, kMicroCols]; A's rows lie kGemmDepthBlock
// apart.
template <int kRows>
void micro_tile(const float* a, const float* panel, int64_t depth, float* c, int64_t c_stride,
                bool accumulate) {
  Float sum[kRows][kMicroVectors] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Float b[kMicroVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kMicroVectors; ++j)
      b[j] = load(panel + k * kMicroCols + j * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Float left = broadcast(a[r * kGemmDepthBlock + k]);
#pragma GCC unroll 2
      for (int j = 0; j < kMicroVectors; ++j)
        sum[r][j] += left * b[j];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kMicroVectors; ++j) {
      float* out = c + r * c_stride + j * kLanes;
      store(out, accumulate ? load(out) + sum[r][j] : sum[r][j]);
    }
  }
}

template <int kRows>
void micro_tile_of(int64_t rows, const float* a, const float* panel, int64_t depth, float* c,
                   int64_t c_stride, bool accumulate) {
  if (rows == kRows) {
    micro_tile<kRows>(a, panel, depth, c, c_stride, accumulate);
  } else if constexpr (kRows > 1) {
    micro_tile_of<kRows - 1>(rows, a, panel, depth, c, c_stride, accumulate);
  }
}

using Quad = VectorOf<4>::Float;

// Columns k .. k + 3 of four rows become the first four elements of four rows of `out`.
template <class T>
inline void transpose_quad(const T* const row[4], int64_t k, float* out, int64_t out_stride) {
  const Quad r0 = load<4>(row[0] + k), r1 = load<4>(row[1] + k);
  const Quad r2 = load<4>(row[2] + k), r3 = load<4>(row[3] + k);
  const Quad low01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5);
  const Quad low23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5);
  const Quad high01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
  const Quad high23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
  const Quad column[4] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5),
                          __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
                          __builtin_shufflevector(high01, high23, 0, 1, 4, 5),
                          __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
  for (int64_t i = 0; i < 4; ++i)
    __builtin_memcpy(out + i * out_stride, &column[i], sizeof(Quad));
}

// W[cols, depth] seen as B[depth, cols].
template <class T>
struct WeightRows {
  const T* data;
  int64_t stride;

  // Packs columns [first, first + cols) of depths [k0, k0 + depth). Columns beyond `cols` repeat
  // the last one: their sums are never stored.
  void pack(int64_t first, int64_t cols, int64_t k0, int64_t depth, float* panel) const {
    for (int64_t n = 0; n < kMicroCols; n += 4) {
      const T* row[4];
      for (int64_t i = 0; i < 4; ++i) {
        const int64_t column = n + i < cols ? n + i : cols - 1;
        row[i] = data + (first + column) * stride + k0;
      }
      float* out = panel + n;
      int64_t k = 0;
      for (; k + 4 <= depth; k += 4) {
        // The next panel's rows: too short and too many for the hardware to see them coming.
        if (k % 16 == 0) {
          for (int64_t i = 0; i < 4; ++i)
            __builtin_prefetch(row[i] + kMicroCols * stride + k);
        }
        transpose_quad(row, k, out + k * kMicroCols, kMicroCols);
      }
      for (; k < depth; ++k) {
        for (int64_t i = 0; i < 4; ++i)
          out[k * kMicroCols + i] = load_one(row[i] + k);
      }
    }
  }
};

// W[cols, depth] whose values a source computes, a panel at a time.
struct SourceRows {
  const WeightSource* source;
  int64_t first_row;
  float* values;  // [kMicroCols][kGemmDepthBlock]

  static_assert(kMicroCols % WeightSource::kRowStep == 0 && kMicroCols <= kGemmMaxPanel);

  void pack(int64_t first, int64_t cols, int64_t k0, int64_t depth, float* panel) const {
    source->read(first_row + first, cols, k0, depth, values, kGemmDepthBlock);
    WeightRows<float>{values, kGemmDepthBlock}.pack(0, cols, 0, depth, panel);
  }
};

// B[depth, cols] in float32.
struct DepthRows {
  const float* data;
  int64_t stride;

  void pack(int64_t first, int64_t cols, int64_t k0, int64_t depth, float* panel) const {
    for (int64_t k = 0; k < depth; ++k) {
      const float* row = data + (k0 + k) * stride + first;
      float* out = panel + k * kMicroCols;
      if (cols == kMicroCols) {
        __builtin_memcpy(out, row, kMicroCols * sizeof(float));
        continue;
      }
      for (int64_t n = 0; n < kMicroCols; ++n)
        out[n] = n < cols ? row[n] : 0.0f;
    }
  }
};

template <class B>
void gemm(const GemmTile& t, const B& b) {
  float* const a_block = t.scratch;
  float* const panel = t.scratch + kGemmMaxRows * kGemmDepthBlock;
  for (int64_t k0 = 0; k0 < t.depth; k0 += kGemmDepthBlock) {
    const int64_t depth = t.depth - k0 < kGemmDepthBlock ? t.depth - k0 : kGemmDepthBlock;
    const bool accumulate = t.accumulate || k0 > 0;
    for (int64_t r = 0; r < t.rows; ++r) {
      __builtin_memcpy(a_block + r * kGemmDepthBlock, t.a + r * t.a_stride + k0,
                       static_cast<size_t>(depth) * sizeof(float));
    }
    for (int64_t n = 0; n < t.cols; n += kMicroCols) {
      const int64_t cols = t.cols - n < kMicroCols ? t.cols - n : kMicroCols;
      b.pack(n, cols, k0, depth, panel);
      for (int64_t m = 0; m < t.rows; m += kMicroRows) {
        const int64_t rows = t.rows - m < kMicroRows ? t.rows - m : kMicroRows;
        const float* a = a_block + m * kGemmDepthBlock;
        float* c = t.c + m * t.c_stride + n;
        if (cols == kMicroCols) {
          micro_tile_of<kMicroRows>(rows, a, panel, depth, c, t.c_stride, accumulate);
          continue;
        }
        float edge[kMicroRows * kMicroCols];
        micro_tile_of<kMicroRows>(rows, a, panel, depth, edge, kMicroCols, false);
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t j = 0; j < cols; ++j) {
            float& out = c[r * t.c_stride + j];
            out = accumulate ? out + edge[r * kMicroCols + j] : edge[r * kMicroCols + j];
          }
        }
      }
    }
  }
}

void gemm_tile(const GemmTile& t) {
  if (t.source != nullptr) {
    float* const values = t.scratch + kGemmDepthBlock * (kGemmMaxRows + kGemmMaxPanel);
    gemm(t, SourceRows{t.source, t.source_row, values});
  } else if (t.b_is_depth_by_cols) {
    gemm(t, DepthRows{static_cast<const float*>(t.b), t.b_stride});
  } else if (t.b_type == FloatType::kF32) {
    gemm(t, WeightRows<float>{static_cast<const float*>(t.b), t.b_stride});
  } else if (t.b_type == FloatType::kF16) {
    gemm(t, WeightRows<F16>{static_cast<const F16*>(t.b), t.b_stride});
  } else {
    gemm(t, WeightRows<Bf16>{static_cast<const Bf16*>(t.b), t.b_stride});
  }
}

// kRows dot products with x at once: one pass over x, several streams of weights. Every row is
// summed in the same order whatever kRows is.
template <int kRows, class T>
void dot_rows(const T* w, int64_t w_stride, int64_t cols, const float* x, float* y) {
  constexpr int kUnroll = 4;
  Float sum[kRows][kUnroll] = {};
  int64_t k = 0;
  for (; k + kUnroll * kLanes <= cols; k += kUnroll * kLanes) {
#pragma GCC unroll 4
    for (int u = 0; u < kUnroll; ++u) {
      const Float right = load(x + k + u * kLanes);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r)
        sum[r][u] += load(w + r * w_stride + k + u * kLanes) * right;
    }
  }
  for (; k + kLanes <= cols; k += kLanes) {
    const Float right = load(x + k);
    for (int r = 0; r < kRows; ++r)
      sum[r][0] += load(w + r * w_stride + k) * right;
  }
  if (k < cols) {
    const Float right = load_partial(x + k, cols - k);
    for (int r = 0; r < kRows; ++r)
      sum[r][1] += load_partial(w + r * w_stride + k, cols - k) * right;
  }
  for (int r = 0; r < kRows; ++r)
    y[r] = sum_lanes((sum[r][0] + sum[r][1]) + (sum[r][2] + sum[r][3]));
}

template <class T>
void gemv_rows(const T* w, int64_t w_stride, int64_t rows, int64_t cols, const float* x, float* y) {
  constexpr int kRows = 2;
  int64_t n = 0;
  for (; n + kRows <= rows; n += kRows)
    dot_rows<kRows>(w + n * w_stride, w_stride, cols, x, y + n);
  for (; n < rows; ++n)
    dot_rows<1>(w + n * w_stride, w_stride, cols, x, y + n);
}

void gemv(FloatType type, const void* w, int64_t w_stride, int64_t rows, int64_t cols,
          const float* x, float* y) {
  if (type == FloatType::kF32) {
    gemv_rows(static_cast<const float*>(w), w_stride, rows, cols, x, y);
  } else if (type == FloatType::kF16) {
    gemv_rows(static_cast<const F16*>(w), w_stride, rows, cols, x, y);
  } else {
    gemv_rows(static_cast<const Bf16*>(w), w_stride, rows, cols, x, y);
  }
}

}  // namespace
}  // namespace abq::compute::ABQ_ISA_NAMESPACE
