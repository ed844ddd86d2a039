// What the zero points of weight groups take from a GEMV's sums.
#pragma once

#include <algorithm>

#include "runtime/cpu/aligned_buffer.h"
#include "runtime/cpu/field_weights.h"
#include "runtime/cpu/kernels.h"

namespace abq::runtime {

// out[M][block_entries]: sum_of(token, group) laid out as a block's scales (the same for its four
// rows), 0 in the padding.
template <class SumOf>
void expand_group_sums(const FieldWeights& w, int64_t m, AlignedBuffer<float>& out,
                       const SumOf& sum_of) {
  out.resize(m * w.block_entries);
  for (int64_t t = 0; t < m; ++t) {
    float* row = out.data() + t * w.block_entries;
    std::fill_n(row, w.block_entries, 0.0f);
    for (int64_t g = 0; g < w.groups(); ++g) {
      const float sum = sum_of(t, g);
      for (int r = 0; r < kBlockRows; ++r)
        row[w.entry(r, g)] = sum;
    }
  }
}

// out[4]: sum_g scale (zero - centre) token_sum for the rows of a block.
inline void block_zero_terms(const FieldWeights& w, const Kernels& kernels, int64_t block,
                             int centre, const float* token_sums, float* out) {
  kernels.zero_terms(w.scales.data() + block * w.block_entries,
                     w.zeros.data() + block * w.block_entries, token_sums, w.block_entries,
                     w.groups_per_unit, 1.0f / static_cast<float>(w.denominator),
                     static_cast<float>(centre), out);
}

}  // namespace abq::runtime
