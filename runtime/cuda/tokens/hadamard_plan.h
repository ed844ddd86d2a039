// How rows are dealt out to the blocks of the Hadamard transform. Host code that tests can call.
//
// H_n with n = order * length (compute/hadamard.h): rounds of sums and differences over `length`
// neighbours, then the mixing of `order` parts by H_order. A block takes a unit, whole neighbouring
// segments of a row, into shared memory. For few rows several blocks share a unit: each makes all
// rounds, which are cheap, and mixes a share of the rows of H_order.
//
// There are two ways to deal: HadamardPlan for rows that are written, HadamardRowPlan for rows that
// are quantized by the same launch, where the blocks of a token are one cluster.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <vector>

#include "compute/hadamard.h"

namespace abq::runtime::cuda {

// Longest segment: what shared memory of 227 KiB holds.
constexpr int64_t kMaxHadamardSize = 49152;

// A matrix as kernels take it.
struct HadamardMatrix {
  int order = 1;  // 1, or a multiple of 4
  int length = 1;
  float scale = 1.0f;  // 1 / sqrt(order * length)
  // On the device, null for order 1.
  const float* signs = nullptr;      // hadamard_signs()
  const uint32_t* packed = nullptr;  // packed_hadamard_signs()

  __host__ __device__ int size() const { return order * length; }
};

constexpr int kHadamardRows = 4;  // of H_order, that a thread makes at a time

// H_order in the order of reading: [column][order / 4][4 rows]: threads of neighbouring quads of
// rows read neighbouring signs.
inline std::vector<float> hadamard_signs(const compute::HadamardFactors& factors) {
  std::vector<float> signs;
  signs.reserve(factors.mix.size());
  if (factors.mix.empty()) return signs;
  for (int64_t j = 0; j < factors.order; ++j) {
    for (int64_t quad = 0; quad < factors.order / kHadamardRows; ++quad) {
      for (int64_t r = 0; r < kHadamardRows; ++r)
        signs.push_back(
            factors.mix[static_cast<size_t>((quad * kHadamardRows + r) * factors.order + j)]);
    }
  }
  return signs;
}

// The same with the four signs of a quad as one word, row 0 in the lowest byte: each the highest
// byte of 1.0f or -1.0f, so that one byte permutation makes the float of it.
inline std::vector<uint32_t> packed_hadamard_signs(const compute::HadamardFactors& factors) {
  const std::vector<float> signs = hadamard_signs(factors);
  std::vector<uint32_t> packed(signs.size() / kHadamardRows, 0);
  for (size_t i = 0; i < signs.size(); ++i)
    packed[i / kHadamardRows] |= (signs[i] < 0.0f ? 0xbfu : 0x3fu) << (8 * (i % kHadamardRows));
  return packed;
}

// Where float i of a unit lies in shared memory: from lengths of 32 on four floats lie idle behind
// every 32, so that threads that take neighbours 8 or 64 floats apart find them in other banks.
struct HadamardPadding {
  int shift;

  __host__ __device__ static HadamardPadding of(int length) { return {length >= 32 ? 5 : 30}; }
  __host__ __device__ int operator()(int i) const { return i + ((i >> shift) << 2); }
  // Bytes of `floats`, in whole vectors.
  static unsigned bytes(int length, int floats) {
    return static_cast<unsigned>((of(length)(floats) + 7) / 4 * 16);
  }
};

// What a block makes of its unit: floats [first, last) of the unit's `count`, by the quads of rows
// [first_quad, last_quad), each of segment quad / quads and there quad first_row + quad % quads.
struct HadamardShare {
  int count = 0;
  int first = 0;
  int last = 0;
  int first_quad = 0;
  int last_quad = 0;
  int quads = 1;
  int first_row = 0;
};

// How a block works, however rows are dealt out.
struct HadamardBlockPlan {
  int threads = 0;           // whole warps
  int columns = 1;           // that a thread mixes at a time: 1, 4 or 8
  bool staged = false;       // whether the share's signs lie in shared memory
  unsigned value_bytes = 0;  // of shared memory: of the unit, behind which the signs lie
  unsigned shared_bytes = 0;
};

struct HadamardPlan : HadamardBlockPlan {
  int unit = 0;    // floats of a unit; the last one of a row may be shorter
  int units = 0;   // of a row
  int slices = 1;  // of the rows of H_order
  int quads = 0;   // of four rows, in a slice
  int blocks = 0;  // of a slice; each takes units blocks apart
};

// The share of block `slice` in unit `unit` of a row.
__host__ __device__ inline HadamardShare hadamard_slice(const HadamardMatrix& matrix, int columns,
                                                        const HadamardPlan& plan, int slice,
                                                        int unit) {
  const int rest = columns - unit * plan.unit;
  const int quads = matrix.order / kHadamardRows - slice * plan.quads;
  HadamardShare share;
  share.count = rest < plan.unit ? rest : plan.unit;
  share.last = share.count;
  share.quads = quads < plan.quads ? quads : plan.quads;
  share.last_quad = share.count / matrix.size() * share.quads;
  share.first_row = slice * plan.quads;
  return share;
}

// `columns` is a multiple of the matrix's size, which is at most kMaxHadamardSize; m > 0.
// `in_place`: a block writes where another would read, were there slices.
inline HadamardPlan plan_hadamard(const HadamardMatrix& matrix, int m, int columns, bool in_place) {
  constexpr int kUnitFloats = 2048;  // where a segment is not longer
  constexpr int kFewBlocks = 128;    // about the multiprocessors of a large device
  constexpr int kMostBlocks = 512;   // more units: blocks take several, and keep their signs
  constexpr int kStagedBytes = 48 * 1024;
  constexpr int kSharedBytes = 227 * 1024;
  constexpr int kMaxThreads = 512;
  const int size = matrix.size();
  HadamardPlan plan;
  plan.unit = size < kUnitFloats ? kUnitFloats / size * size : size;
  if (plan.unit > columns) plan.unit = columns;
  plan.units = (columns + plan.unit - 1) / plan.unit;
  const int64_t all = static_cast<int64_t>(m) * plan.units;
  plan.value_bytes = HadamardPadding::bytes(matrix.length, plan.unit);
  plan.shared_bytes = plan.value_bytes;
  int items = 0;
  if (matrix.order > 1) {
    const int quads = matrix.order / kHadamardRows;
    const int quad_bytes = matrix.order * kHadamardRows * static_cast<int>(sizeof(float));
    const int room = kSharedBytes - static_cast<int>(plan.value_bytes);
    const int most = (room < kStagedBytes ? room : kStagedBytes) / quad_bytes;
    plan.quads = quads;
    if (!in_place && most > 0) {
      const int wanted = static_cast<int>(all < kFewBlocks ? (kFewBlocks + all - 1) / all : 1);
      plan.quads = (quads + wanted - 1) / wanted;
      if (plan.quads > most) plan.quads = most;
    }
    plan.slices = (quads + plan.quads - 1) / plan.quads;
    plan.staged = plan.quads <= most;
    if (plan.staged) plan.shared_bytes += static_cast<unsigned>(plan.quads * quad_bytes);
    // Four columns at a time read the least from shared memory, one keeps more threads busy.
    plan.columns = all > kFewBlocks && matrix.length % 4 == 0 ? 4 : 1;
    items = plan.unit / size * plan.quads * (matrix.length / plan.columns);
  }
  const int most_blocks = kMostBlocks / plan.slices > 0 ? kMostBlocks / plan.slices : 1;
  plan.blocks = static_cast<int>(all < most_blocks ? all : most_blocks);
  const int wanted = items > plan.unit / 8 ? items : plan.unit / 8;
  plan.threads = wanted > kMaxThreads ? kMaxThreads : (wanted + 31) / 32 * 32;
  if (plan.threads < 32) plan.threads = 32;
  return plan;
}

}  // namespace abq::runtime::cuda
