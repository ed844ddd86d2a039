// Device memory for tokens in all of their forms.
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
  Status check_planes(const quant::QuantizedTokens& tokens) const;

  int m_ = 0;
  int k_ = 0;
  int bits_ = 0;
  DeviceArray<uint32_t> planes_;
  DeviceArray<uint8_t> codes_;
  DeviceArray<float> scales_;
  DeviceArray<int32_t> zeros_;
  DeviceArray<int32_t> sums_;
  DeviceArray<int32_t> group_sums_;
  DeviceArray<uint16_t> halves_;
};

}  // namespace abq::runtime::cuda
