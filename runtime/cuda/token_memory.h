// Where the parts of quantized tokens (TokenTiles) and of tokens in halves (HalfTokens) lie in one
// block of memory. Blocks are aligned to kTokenMemoryAlignment bytes on the device; views hold of a
// copy on the host just as well.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/cuda/views.h"

namespace abq::runtime::cuda {

inline constexpr int64_t kTokenMemoryAlignment = 256;

// `bytes`, rounded up to the alignment.
constexpr int64_t aligned_bytes(int64_t bytes) {
  return (bytes + kTokenMemoryAlignment - 1) / kTokenMemoryAlignment * kTokenMemoryAlignment;
}

// What m tokens of k values need (more for more of them), and their view with every form: planes,
// codes and sums of groups.
int64_t token_memory_bytes(int64_t m, int64_t k, int bits);
TokenTiles token_view(int64_t m, int64_t k, int bits, std::byte* memory);

int64_t half_memory_bytes(int64_t m, int64_t k);
HalfTokens half_view(int64_t m, int64_t k, std::byte* memory);

}  // namespace abq::runtime::cuda
