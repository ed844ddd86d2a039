#include "runtime/cuda/token_memory.h"

namespace abq::runtime::cuda {
namespace {

constexpr int64_t kFloat = sizeof(float);

int64_t padded_tokens(int64_t m) {
  const int64_t multiple = m > kTokenColumns ? kTokenPadding : kTokenColumns;
  return (m + multiple - 1) / multiple * multiple;
}

// Parts of the memory of quantized tokens, one after the other.
struct TokenParts {
  TokenParts(int64_t tokens, int64_t k, int bits) {
    const int64_t m = padded_tokens(tokens);
    const int64_t k_tiles = tiles_of(k, kTileDepth);
    const auto add = [&](int64_t* offset, int64_t size) {
      *offset = bytes;
      bytes += aligned_bytes(size);
    };
    add(&planes, m * k_tiles * bits * 32);
    add(&codes, m * k_tiles * kTileDepth);
    add(&scales, m * kFloat);
    add(&zeros, m * kFloat);
    add(&sums, m * kFloat);
    add(&group_sums, m * k_tiles * 8 * kFloat);
  }
  int64_t planes = 0;
  int64_t codes = 0;
  int64_t scales = 0;
  int64_t zeros = 0;
  int64_t sums = 0;
  int64_t group_sums = 0;
  int64_t bytes = 0;
};

struct HalfParts {
  HalfParts(int64_t m, int64_t k) {
    scales = aligned_bytes(m * 2 * tiles_of(k, kTileDepth) * kTileDepth * 2);
    bytes = scales + aligned_bytes(m * kFloat);
  }
  int64_t scales = 0;
  int64_t bytes = 0;
};

}  // namespace

int64_t token_memory_bytes(int64_t m, int64_t k, int bits) {
  return TokenParts(m, k, bits).bytes;
}

TokenTiles token_view(int64_t m, int64_t k, int bits, std::byte* memory) {
  const TokenParts parts(m, k, bits);
  TokenTiles tokens;
  tokens.m = static_cast<int>(m);
  tokens.k = static_cast<int>(k);
  tokens.bits = bits;
  tokens.planes = reinterpret_cast<uint32_t*>(memory + parts.planes);
  tokens.codes = reinterpret_cast<uint8_t*>(memory + parts.codes);
  tokens.scales = reinterpret_cast<float*>(memory + parts.scales);
  tokens.zeros = reinterpret_cast<int32_t*>(memory + parts.zeros);
  tokens.sums = reinterpret_cast<int32_t*>(memory + parts.sums);
  tokens.group_sums = reinterpret_cast<int32_t*>(memory + parts.group_sums);
  return tokens;
}

int64_t half_memory_bytes(int64_t m, int64_t k) {
  return HalfParts(m, k).bytes;
}

HalfTokens half_view(int64_t m, int64_t k, std::byte* memory) {
  const HalfParts parts(m, k);
  HalfTokens halves;
  halves.m = static_cast<int>(m);
  halves.k = static_cast<int>(k);
  halves.halves = reinterpret_cast<uint16_t*>(memory);
  halves.scales = reinterpret_cast<float*>(memory + parts.scales);
  return halves;
}

}  // namespace abq::runtime::cuda
