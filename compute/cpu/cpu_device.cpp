#include "compute/cpu/cpu_device.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "compute/cpu/pieces.h"
#include "compute/hadamard.h"

namespace abq::compute {
namespace {

// Weights of one matrix-vector piece: they stay in the second-level cache for the next row of X.
constexpr int64_t kGemvBytesPerPiece = 256 * 1024;
// Rows of X up to which reading the weights costs more than the arithmetic on them.
constexpr int64_t kGemvMaxRows = 4;
constexpr int64_t kGemmMaxCols = 256;
constexpr int64_t kGemmMinTiles = 32;
// With fewer groups, decode gives each head to a thread of its own rather than read keys once.
constexpr int64_t kMinDecodeGroups = 8;

struct TileSize {
  int64_t rows;
  int64_t cols;
};

// Tiles as large as the caches like, then smaller until there are enough of them for the threads of
// a large machine; equal heights, so that no sliver of rows packs all of B again.
TileSize tile_size(const Kernels& kernels, int64_t rows, int64_t cols) {
  const auto even = [](int64_t total, int64_t most, int64_t step) {
    const int64_t pieces = divide_up(total, most);
    return divide_up(divide_up(total, pieces), step) * step;
  };
  const int64_t max_rows = kGemmMaxRows - kernels.gemm_row_step;
  int64_t tile_cols = kGemmMaxCols;
  int64_t tile_rows = even(rows, max_rows, kernels.gemm_row_step);
  const auto tiles = [&] { return divide_up(rows, tile_rows) * divide_up(cols, tile_cols); };
  while (tiles() < kGemmMinTiles && tile_cols > 64)
    tile_cols /= 2;
  if (tiles() < kGemmMinTiles && tile_rows > 128) {
    tile_rows = even(rows, max_rows / 2, kernels.gemm_row_step);
  }
  return {tile_rows, tile_cols};
}

}  // namespace

float* thread_scratch(int64_t floats) {
  thread_local std::vector<float> scratch;
  if (static_cast<int64_t>(scratch.size()) < floats) scratch.resize(static_cast<size_t>(floats));
  return scratch.data();
}

void rope_angles(int64_t position, const float* frequencies, int64_t count, float* cosines,
                 float* sines) {
  for (int64_t j = 0; j < count; ++j) {
    const double angle = static_cast<double>(position) * frequencies[j];
    cosines[j] = static_cast<float>(std::cos(angle));
    sines[j] = static_cast<float>(std::sin(angle));
  }
}

void CpuDevice::product(const GemmTile& whole) const {
  const TileSize size = tile_size(kernels_, whole.rows, whole.cols);
  const int64_t tile_rows = divide_up(whole.rows, size.rows);
  const int64_t tile_cols = divide_up(whole.cols, size.cols);
  const int64_t element = float_type_bytes(whole.b_type);
  // Row tiles vary fastest: the threads share the columns of B they are reading.
  parallel_for(tile_rows * tile_cols, [&](int64_t i) {
    const int64_t m = i % tile_rows * size.rows;
    const int64_t n = i / tile_rows * size.cols;
    GemmTile tile = whole;
    tile.a += m * whole.a_stride;
    tile.rows = std::min(size.rows, whole.rows - m);
    if (whole.source != nullptr) {
      tile.source_row = n;
    } else {
      const int64_t first = whole.b_is_depth_by_cols ? n : n * whole.b_stride;
      tile.b = static_cast<const char*>(whole.b) + first * element;
    }
    tile.cols = std::min(size.cols, whole.cols - n);
    tile.c += m * whole.c_stride + n;
    tile.scratch = thread_scratch(kGemmScratch);
    kernels_.gemm_tile(tile);
  });
}

void CpuDevice::linear(MatrixView<const float> x, const FloatMatrix& w, MatrixView<float> y) const {
  ABQ_CHECK(x.cols == w.cols && y.cols == w.rows && x.rows == y.rows && x.cols > 0);
  if (x.rows == 0 || w.rows == 0) return;
  if (x.rows <= kGemvMaxRows) return few_rows(x, w, y);
  GemmTile whole;
  whole.a = x.data;
  whole.a_stride = x.stride;
  whole.rows = x.rows;
  whole.b = w.data;
  whole.b_stride = w.cols;
  whole.b_type = w.type;
  whole.cols = w.rows;
  whole.depth = w.cols;
  whole.c = y.data;
  whole.c_stride = y.stride;
  product(whole);
}

void CpuDevice::linear(MatrixView<const float> x, const WeightSource& w,
                       MatrixView<float> y) const {
  ABQ_CHECK(x.cols == w.cols() && y.cols == w.rows() && x.rows == y.rows && x.cols > 0);
  if (x.rows == 0 || w.rows() == 0) return;
  GemmTile whole;
  whole.a = x.data;
  whole.a_stride = x.stride;
  whole.rows = x.rows;
  whole.source = &w;
  whole.cols = w.rows();
  whole.depth = w.cols();
  whole.c = y.data;
  whole.c_stride = y.stride;
  product(whole);
}

void CpuDevice::few_rows(MatrixView<const float> x, const FloatMatrix& w,
                         MatrixView<float> y) const {
  const int64_t row_bytes = w.cols * float_type_bytes(w.type);
  const int64_t step = divide_up(kGemvBytesPerPiece / 8, row_bytes) * 8;
  parallel_for(divide_up(w.rows, step), [&](int64_t i) {
    const int64_t first = i * step;
    const void* piece = static_cast<const char*>(w.data) + first * row_bytes;
    const int64_t rows = std::min(step, w.rows - first);
    for (int64_t r = 0; r < x.rows; ++r)
      kernels_.gemv(w.type, piece, w.cols, rows, w.cols, x.row(r), y.row(r) + first);
  });
}

void CpuDevice::matmul(MatrixView<const float> a, MatrixView<const float> b,
                       MatrixView<float> c) const {
  ABQ_CHECK(a.cols == b.rows && c.cols == b.cols && a.rows == c.rows && a.cols > 0);
  GemmTile whole;
  whole.a = a.data;
  whole.a_stride = a.stride;
  whole.rows = a.rows;
  whole.b = b.data;
  whole.b_stride = b.stride;
  whole.b_is_depth_by_cols = true;
  whole.cols = b.cols;
  whole.depth = a.cols;
  whole.c = c.data;
  whole.c_stride = c.stride;
  if (a.rows > 0 && b.cols > 0) product(whole);
}

void CpuDevice::rms_norm(MatrixView<const float> x, const float* weight, float eps,
                         MatrixView<float> y) const {
  ABQ_CHECK(x.rows == y.rows && x.cols == y.cols && x.cols > 0);
  for_row_pieces(x.rows, x.cols, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r)
      kernels_.rms_norm(x.row(r), weight, eps, x.cols, y.row(r));
  });
}

void CpuDevice::silu_mul(MatrixView<const float> gate, MatrixView<const float> up,
                         MatrixView<float> y) const {
  ABQ_CHECK(gate.rows == y.rows && up.rows == y.rows && gate.cols == y.cols && up.cols == y.cols);
  for_row_pieces(y.rows, y.cols, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r)
      kernels_.silu_mul(gate.row(r), up.row(r), y.cols, y.row(r));
  });
}

void CpuDevice::add(MatrixView<const float> a, MatrixView<const float> b,
                    MatrixView<float> y) const {
  ABQ_CHECK(a.rows == y.rows && b.rows == y.rows && a.cols == y.cols && b.cols == y.cols);
  for_row_pieces(y.rows, y.cols, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r)
      kernels_.add(a.row(r), b.row(r), y.cols, y.row(r));
  });
}

void CpuDevice::rope(MatrixView<float> x, int head_dim, const int64_t* positions,
                     const float* inverse_frequencies) const {
  ABQ_CHECK(head_dim > 0 && head_dim % 2 == 0 && x.cols % head_dim == 0);
  const int64_t half = head_dim / 2;
  for_row_pieces(x.rows, x.cols, [&](int64_t first, int64_t last) {
    float* const cosines = thread_scratch(head_dim);
    float* const sines = cosines + half;
    for (int64_t r = first; r < last; ++r) {
      rope_angles(positions[r], inverse_frequencies, half, cosines, sines);
      kernels_.rope(x.row(r), x.cols / head_dim, head_dim, cosines, sines);
    }
  });
}

void CpuDevice::hadamard(MatrixView<float> x, int64_t size, bool transposed) const {
  ABQ_CHECK(size > 0 && x.cols % size == 0);
  const HadamardFactors& factors = hadamard_factors(size);
  if (size == 1) return;
  for_row_pieces(x.rows, x.cols, [&](int64_t first, int64_t last) {
    HadamardRow row;
    row.count = x.cols;
    row.order = factors.order;
    row.length = factors.length;
    row.mix = transposed ? factors.mix_transposed.data() : factors.mix.data();
    row.scale = factors.scale();
    row.scratch = thread_scratch(size);
    for (int64_t r = first; r < last; ++r) {
      row.x = x.row(r);
      kernels_.hadamard(row);
    }
  });
}

void CpuDevice::attention(const AttentionShape& shape, MatrixView<const float> q,
                          MatrixView<const float> k, MatrixView<const float> v, int64_t first_query,
                          MatrixView<float> y) const {
  ABQ_CHECK(shape.head_dim > 0 && shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0);
  ABQ_CHECK(q.cols == shape.heads * shape.head_dim && y.cols == q.cols && y.rows == q.rows);
  ABQ_CHECK(k.cols == shape.kv_heads * shape.head_dim && v.cols == k.cols);
  ABQ_CHECK(k.rows == first_query + q.rows && v.rows == k.rows && first_query >= 0);
  // A block takes heads of one group together (they read the same keys), and some queries.
  const bool one_row = q.rows == 1;
  const int64_t group = shape.heads / shape.kv_heads;
  const bool spread = one_row && shape.kv_heads < kMinDecodeGroups;
  const int64_t block_heads = spread ? 1 : std::min(group, kAttentionHeads);
  const int64_t blocks_per_group = divide_up(group, block_heads);
  const int64_t head_blocks = shape.kv_heads * blocks_per_group;
  const int64_t query_blocks = divide_up(q.rows, kAttentionQueries);
  parallel_for(head_blocks * query_blocks, [&](int64_t i) {
    const int64_t kv_head = i % head_blocks / blocks_per_group;
    const int64_t in_group = i % blocks_per_group * block_heads;
    const int64_t head = kv_head * group + in_group;
    // Later queries see more keys: they start first, so that no thread is left with one at the end.
    const int64_t row = (query_blocks - 1 - i / head_blocks) * kAttentionQueries;
    AttentionBlock block;
    block.q = q.row(row) + head * shape.head_dim;
    block.q_stride = q.stride;
    block.k = k.data + kv_head * shape.head_dim;
    block.k_stride = k.stride;
    block.v = v.data + kv_head * shape.head_dim;
    block.v_stride = v.stride;
    block.y = y.row(row) + head * shape.head_dim;
    block.y_stride = y.stride;
    block.heads = std::min(block_heads, group - in_group);
    block.queries = std::min(kAttentionQueries, q.rows - row);
    block.head_dim = shape.head_dim;
    block.first_position = first_query + row;
    block.window = shape.window;
    block.scratch = thread_scratch(one_row ? attention_row_scratch(k.rows, shape.head_dim)
                                           : attention_block_scratch(shape.head_dim));
    one_row ? kernels_.attention_row(block) : kernels_.attention_block(block);
  });
}

const Device& cpu_device() {
  static const CpuDevice device(*kernels_for(cpu_isa()));
  return device;
}

void to_float(FloatType type, const void* in, int64_t count, float* out) {
  const Kernels& kernels = *kernels_for(cpu_isa());
  const int64_t bytes = float_type_bytes(type);
  parallel_for(divide_up(count, kElementsPerPiece), [&](int64_t i) {
    const int64_t first = i * kElementsPerPiece;
    kernels.to_float(type, static_cast<const char*>(in) + first * bytes,
                     std::min(kElementsPerPiece, count - first), out + first);
  });
}

}  // namespace abq::compute
