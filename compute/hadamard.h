// Hadamard matrices: orthogonal over the root of their size, they spread what lies in single
// channels over many, and multiply by additions alone.
//
// H_n for n = m 2^k is the Kronecker product of a Hadamard matrix of order m and Sylvester's of
// order 2^k:
//
//   H_n[i 2^k + s, j 2^k + t] = H_m[i, j] (-1)^popcount(s & t)
//
// m is 1 for powers of two, else the least order that Paley's constructions (R. Paley, "On
// orthogonal matrices", 1933) give over a field of p, p^2 or p^3 elements: 12, 20, 28, 36, 44, 52,
// ... H_n H_n^T = n I. H_m is symmetric where it comes from a field of q = 1 (mod 4) elements.
#pragma once

#include <cstdint>
#include <vector>

namespace abq::compute {

struct HadamardFactors {
  int64_t order = 1;   // m
  int64_t length = 1;  // 2^k
  // H_m, 1 and -1, row by row, and its transpose; empty for m = 1.
  std::vector<float> mix = {};
  std::vector<float> mix_transposed = {};

  int64_t size() const { return order * length; }
  // What makes H_n orthogonal: 1 / sqrt(n).
  float scale() const;
};

// H_n[row, column]: 1 or -1.
double hadamard_entry(const HadamardFactors& factors, int64_t row, int64_t column);

// Whether H_size can be made: 1, 2, 4, 8, 12, 16, 20, 24, 28, ...
bool has_hadamard(int64_t size);
// The factors of H_size, which must exist; made once and kept.
const HadamardFactors& hadamard_factors(int64_t size);
// The largest divisor of `columns` that is the size of a Hadamard matrix of at most `most_order` in
// its first factor; 1 for odd numbers.
int64_t largest_hadamard(int64_t columns, int64_t most_order);
// The same of any order.
int64_t largest_hadamard(int64_t columns);
// What is transformed at run time in front of activations of `bits`: the largest there is, and from
// 8 bits on, where smaller ones lose little, one that mixes at most 64 parts (docs/rotation.md).
int64_t online_hadamard(int64_t columns, int bits);

}  // namespace abq::compute
