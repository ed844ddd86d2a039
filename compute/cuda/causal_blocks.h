// Which parts of an attention matrix a causal product has to touch.
//
// A query sees the keys up to its own, so half of a [context, context] matrix is zero. Long
// contexts are cut into square blocks, and products run over the blocks that hold a seen key:
//
//     keys     0 1 2 3             each row of blocks is one product of growing width: at eight
//     block 0  #                   blocks 44 % of the arithmetic is saved. With a window the
//     block 1  # #                 blocks left of it are skipped too.
//     block 2  # # #
//     block 3  # # # #
#pragma once

#include <algorithm>
#include <cstdint>

namespace abq::compute::cuda {

struct CausalBlocks {
  struct Range {
    int64_t first = 0;
    int64_t last = 0;  // one past the end
    int64_t count() const { return last - first; }
  };

  int64_t context = 0;
  int64_t window = 0;  // as in AttentionShape
  int64_t size = 0;    // rows and columns of a block

  CausalBlocks(int64_t c, int64_t w) : context(c), window(w), size(c) {
    constexpr int64_t kBlock = 256;
    if (context >= 2 * kBlock) size = kBlock;
  }
  int64_t count() const { return size == 0 ? 0 : (context + size - 1) / size; }
  Range rows(int64_t block) const { return {block * size, std::min(context, (block + 1) * size)}; }
  // The keys, in whole blocks, that some query of the block sees.
  Range keys(int64_t block) const {
    const int64_t first = window == 0 ? 0 : std::max<int64_t>(0, block * size - window + 1);
    return {first / size * size, rows(block).last};
  }
  // The queries, in whole blocks, that see some key of the block.
  Range queries(int64_t block) const {
    const int64_t first = block * size;
    if (window == 0) return {first, context};
    const int64_t end = (block + 1) * size + window - 1;
    return {first, std::min(context, (end + size - 1) / size * size)};
  }
};

}  // namespace abq::compute::cuda
