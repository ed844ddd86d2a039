// Hadamard matrices by Paley's two constructions.
#pragma once

#include <cstdint>
#include <vector>

namespace abq::compute {

// Largest order that is made: its matrix is 4 MB of float32.
inline constexpr int64_t kMaxPaleyOrder = 1024;

// Whether paley_matrix(order) exists: order - 1 = 3 (mod 4), or order / 2 - 1 = 1 (mod 4), is a
// prime, its square or its cube.
bool has_paley(int64_t order);
// Entries 1 and -1, [order, order], row by row.
std::vector<float> paley_matrix(int64_t order);

}  // namespace abq::compute
