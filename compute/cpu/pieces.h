// How the CPU devices cut work: pieces whose bounds depend on the shape alone.
#pragma once

#include <algorithm>
#include <cstdint>

#include "support/parallel.h"

namespace abq::compute {

// Elements below which a second thread costs more than it brings.
inline constexpr int64_t kElementsPerPiece = 16384;

// Added to the row length of transposed copies: rows a power of two apart would share few sets of
// the cache.
inline constexpr int64_t kRowPadding = 16;

inline int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Scratch that the calling thread keeps between calls; the next call takes it back.
float* thread_scratch(int64_t floats);

// body(first, last) over pieces of [0, rows), each of about kElementsPerPiece elements. A single
// piece runs without a parallel region, whose start takes longer than a short row.
template <class Body>
void for_row_pieces(int64_t rows, int64_t cols, const Body& body) {
  const int64_t step = std::max<int64_t>(kElementsPerPiece / std::max<int64_t>(cols, 1), 1);
  if (rows <= step) {
    body(0, rows);
    return;
  }
  parallel_for(divide_up(rows, step),
               [&](int64_t i) { body(i * step, std::min((i + 1) * step, rows)); });
}

// Sums over many rows: each piece of rows makes partial sums of its own, which are added up later
// in the order of the pieces.
struct RowSums {
  static constexpr int64_t kMaxPieces = 64;

  RowSums(int64_t row_count, int64_t cols)
      : rows(row_count),
        step(std::max({kElementsPerPiece / std::max<int64_t>(cols, 1),
                       divide_up(row_count, kMaxPieces), int64_t{1}})),
        pieces(divide_up(row_count, step)) {}

  // body(piece, first row, last row).
  template <class Body>
  void for_pieces(const Body& body) const {
    parallel_for(pieces, [&](int64_t i) { body(i, i * step, std::min((i + 1) * step, rows)); });
  }

  int64_t rows;
  int64_t step;
  int64_t pieces;
};

}  // namespace abq::compute
