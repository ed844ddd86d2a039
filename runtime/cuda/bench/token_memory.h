// Device memory of its own for tokens in all of their forms.
#pragma once

#include "quant/affine.h"
#include "runtime/cuda/device_array.h"
#include "runtime/cuda/views.h"

namespace abq::runtime::cuda {

class TokenMemory {
 public:
  // Quantized tokens, or float16 pairs for 16 bits.
  static Result<TokenMemory> create(int m, int k, int bits);

  int m() const { return m_; }
  bool halves() const { return bits_ >= 16; }
  // Views; the first without a form for which the argument is false.
  TokenTiles tiles(bool planes, bool codes);
  HalfTokens half_tokens();
  // The codes as they lie on the device. Internal when planes and codes of the first or last tokens
  // differ.
  Result<quant::QuantizedTokens> download() const;

 private:
  Status check_planes(const quant::QuantizedTokens& tokens, const uint32_t* planes) const;

  int m_ = 0;
  int k_ = 0;
  int bits_ = 0;
  DeviceArray<std::byte> memory_;
};

}  // namespace abq::runtime::cuda
