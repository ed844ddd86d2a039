#include "runtime/cuda/bench/token_memory.h"

#include "runtime/cuda/linear/tile_layout.h"
#include "runtime/cuda/token_memory.h"

namespace abq::runtime::cuda {

Result<TokenMemory> TokenMemory::create(int m, int k, int bits) {
  TokenMemory memory;
  memory.m_ = m;
  memory.k_ = k;
  memory.bits_ = bits;
  ABQ_ASSIGN_OR_RETURN(memory.memory_,
                       DeviceArray<std::byte>::create(bits >= 16 ? half_memory_bytes(m, k)
                                                                 : token_memory_bytes(m, k, bits)));
  return memory;
}

TokenTiles TokenMemory::tiles(bool planes, bool codes) {
  TokenTiles view = token_view(m_, k_, bits_, memory_.data());
  if (!planes) view.planes = nullptr;
  if (!codes) view.codes = nullptr;
  return view;
}

HalfTokens TokenMemory::half_tokens() {
  return half_view(m_, k_, memory_.data());
}

Result<quant::QuantizedTokens> TokenMemory::download() const {
  if (halves()) return unsupported("cuda: tokens of 16 bits have no codes");
  ABQ_ASSIGN_OR_RETURN(std::vector<std::byte> memory, memory_.download());
  const TokenTiles view = token_view(m_, k_, bits_, memory.data());
  quant::QuantizedTokens tokens{
      .bits = bits_, .m = m_, .k = k_, .codes = {}, .scales = {}, .zeros = {}};
  tokens.codes.resize(static_cast<size_t>(m_) * static_cast<size_t>(k_));
  const int k_tiles = tiles_of(k_, kTileDepth);
  for (int64_t token = 0; token < m_; ++token) {
    for (int64_t k = 0; k < k_; ++k) {
      tokens.codes[static_cast<size_t>(token * k_ + k)] = view.codes[token_code(token, k_tiles, k)];
    }
    tokens.scales.push_back(view.scales[token]);
    tokens.zeros.push_back(static_cast<uint8_t>(view.zeros[token]));
  }
  ABQ_RETURN_IF_ERROR(check_planes(tokens, view.planes));
  return tokens;
}

Status TokenMemory::check_planes(const quant::QuantizedTokens& tokens,
                                 const uint32_t* planes) const {
  const int k_tiles = tiles_of(k_, kTileDepth);
  const int m = static_cast<int>(m_);
  constexpr int64_t kEnds = 8;  // tokens that are checked at both ends
  for (int64_t token = 0; token < m_; ++token) {
    if (token >= kEnds && token < m_ - kEnds) continue;
    for (int k = 0; k < k_; ++k) {
      // Input 32 s + 16 h + 4 t + b is bit 8 b + s of word (t, h).
      const int in_tile = k % kTileDepth;
      const int bit = in_tile % 4 * 8 + in_tile / 32;
      const int t = in_tile / 4 % 4;
      const int h = in_tile / 16 % 2;
      uint32_t code = 0;
      for (int j = 0; j < bits_; ++j) {
        const int64_t pair = plane_pair(m, token, k_tiles, k / kTileDepth, bits_, j, t);
        code |= (planes[2 * pair + h] >> bit & 1u) << j;
      }
      if (code != tokens.codes[static_cast<size_t>(token * k_ + k)]) {
        return internal_error("cuda: code {} of token {} is {} in its planes, {} in its bytes", k,
                              token, code, tokens.codes[static_cast<size_t>(token * k_ + k)]);
      }
    }
  }
  return {};
}

}  // namespace abq::runtime::cuda
