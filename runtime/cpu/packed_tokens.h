// Activations ready for the quantized kernels, made once and shared by all linears that read them.
#pragma once

#include <cstdint>
#include <functional>

#include "runtime/cpu/aligned_buffer.h"
#include "support/cpu_features.h"
#include "support/matrix_view.h"

namespace abq::runtime {

// The K values of a token, made on the calling thread and valid until its next call.
using TokenRow = std::function<const float*(int64_t token)>;

// Codes of M tokens with their scales, zero points and sums.
//   codes    [M][padded K]                     rows padded with 0 to a multiple of 128
//   panels   [M / 16][padded K / 4][16][4]     only when M is large enough for a GEMM
//   planes   [M][bits][plane bytes]            only on request: the bit kernels read them
// All per-token arrays are padded with zeros to a multiple of 16 tokens.
class PackedTokens {
 public:
  int bits() const { return bits_; }
  int64_t m() const { return m_; }
  int64_t k() const { return k_; }
  int64_t padded_k() const { return padded_k_; }
  bool has_panels() const { return panels_.size() > 0; }
  bool has_planes() const { return planes_.size() > 0; }

  const uint8_t* codes(int64_t token) const { return codes_.data() + token * padded_k_; }
  const uint8_t* panel(int64_t index) const { return panels_.data() + index * 16 * padded_k_; }
  const uint8_t* planes(int64_t token) const {
    return planes_.data() + token * bits_ * plane_bytes(k_);
  }
  const float* scales() const { return scales_.data(); }
  const int32_t* zeros() const { return zeros_.data(); }
  const int32_t* sums() const { return sums_.data(); }  // of all codes of a token
  // Sums of 32 codes each, [M][padded K / 32].
  const int32_t* sums32(int64_t token) const { return sums32_.data() + token * (padded_k_ / 32); }

  // Bytes of one plane: whole 64-byte vectors.
  static int64_t plane_bytes(int64_t k) { return (k + 511) / 512 * 64; }

 private:
  friend void pack_tokens(int64_t m, int64_t k, const TokenRow& row, int bits, PackedTokens& out,
                          CpuIsa isa, bool with_planes);
  void pack_rows(const TokenRow& row, CpuIsa isa);
  void make_panels();
  void make_planes();

  int bits_ = 0;
  int64_t m_ = 0;
  int64_t k_ = 0;
  int64_t padded_k_ = 0;
  AlignedBuffer<uint8_t> codes_;
  AlignedBuffer<uint8_t> panels_;
  AlignedBuffer<uint8_t> planes_;
  AlignedBuffer<float> scales_;
  AlignedBuffer<int32_t> zeros_;
  AlignedBuffer<int32_t> sums_;
  AlignedBuffer<int32_t> sums32_;
};

// Dynamic per-token quantization of x[M, K] to `bits` (1..8): the bytes of quant::quantize_tokens.
// Reuses the memory of `out`.
void pack_tokens(MatrixView<const float> x, int bits, PackedTokens& out, CpuIsa isa = cpu_isa(),
                 bool with_planes = false);
// The same of rows that are made where they are packed, while they are in the cache.
void pack_tokens(int64_t m, int64_t k, const TokenRow& row, int bits, PackedTokens& out,
                 CpuIsa isa = cpu_isa(), bool with_planes = false);

}  // namespace abq::runtime
