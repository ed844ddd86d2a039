#include "runtime/cuda/bench/token_memory.h"

#include "runtime/cuda/linear/tile_layout.h"

namespace abq::runtime::cuda {

Result<TokenMemory> TokenMemory::create(int m, int k, int bits) {
  TokenMemory memory;
  memory.m_ = m;
  memory.k_ = k;
  memory.bits_ = bits;
  const int64_t rows = m > 8 ? static_cast<int64_t>(tiles_of(m, kTokenPadding)) * kTokenPadding : 8;
  const int64_t k_tiles = tiles_of(k, kTileDepth);
  ABQ_ASSIGN_OR_RETURN(memory.scales_, DeviceArray<float>::create(rows));
  if (memory.halves()) {
    ABQ_ASSIGN_OR_RETURN(memory.halves_,
                         DeviceArray<uint16_t>::create(rows * 2 * k_tiles * kTileDepth));
    return memory;
  }
  ABQ_ASSIGN_OR_RETURN(memory.planes_, DeviceArray<uint32_t>::create(rows * k_tiles * bits * 8));
  ABQ_ASSIGN_OR_RETURN(memory.codes_, DeviceArray<uint8_t>::create(rows * k_tiles * kTileDepth));
  ABQ_ASSIGN_OR_RETURN(memory.zeros_, DeviceArray<int32_t>::create(rows));
  ABQ_ASSIGN_OR_RETURN(memory.sums_, DeviceArray<int32_t>::create(rows));
  ABQ_ASSIGN_OR_RETURN(memory.group_sums_, DeviceArray<int32_t>::create(rows * 8 * k_tiles));
  return memory;
}

TokenTiles TokenMemory::tiles(bool planes, bool codes) {
  TokenTiles view;
  view.m = m_;
  view.k = k_;
  view.bits = bits_;
  view.planes = planes ? planes_.data() : nullptr;
  view.codes = codes ? codes_.data() : nullptr;
  view.scales = scales_.data();
  view.zeros = zeros_.data();
  view.sums = sums_.data();
  view.group_sums = group_sums_.data();
  return view;
}

HalfTokens TokenMemory::half_tokens() {
  return {m_, k_, halves_.data(), scales_.data()};
}

Result<quant::QuantizedTokens> TokenMemory::download() const {
  if (halves()) return unsupported("cuda: tokens of 16 bits have no codes");
  ABQ_ASSIGN_OR_RETURN(const std::vector<uint8_t> codes, codes_.download());
  ABQ_ASSIGN_OR_RETURN(const std::vector<float> scales, scales_.download());
  ABQ_ASSIGN_OR_RETURN(const std::vector<int32_t> zeros, zeros_.download());
  quant::QuantizedTokens tokens{
      .bits = bits_, .m = m_, .k = k_, .codes = {}, .scales = {}, .zeros = {}};
  tokens.codes.resize(static_cast<size_t>(m_) * static_cast<size_t>(k_));
  const int k_tiles = tiles_of(k_, kTileDepth);
  for (int64_t token = 0; token < m_; ++token) {
    for (int64_t k = 0; k < k_; ++k) {
      tokens.codes[static_cast<size_t>(token * k_ + k)] =
          codes[static_cast<size_t>(token_code(token, k_tiles, k))];
    }
    tokens.scales.push_back(scales[static_cast<size_t>(token)]);
    tokens.zeros.push_back(static_cast<uint8_t>(zeros[static_cast<size_t>(token)]));
  }
  ABQ_RETURN_IF_ERROR(check_planes(tokens));
  return tokens;
}

Status TokenMemory::check_planes(const quant::QuantizedTokens& tokens) const {
  ABQ_ASSIGN_OR_RETURN(const std::vector<uint32_t> planes, planes_.download());
  const int k_tiles = tiles_of(k_, kTileDepth);
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
        const int64_t pair = token_plane_pair(token, k_tiles, k / kTileDepth, bits_, j, t);
        code |= (planes[static_cast<size_t>(2 * pair + h)] >> bit & 1u) << j;
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
