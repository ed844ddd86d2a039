// Linear layers with quantized weights on the CPU: any weight width 1..8 (balanced 1 and 2 bits
// too), activation widths 1..8 and 16, per channel or groups of 32/64/128, any M, N and K.
//
// At load the canonical packed rows (quant/packed_layout.h) are repacked into the layout that the
// kernels read fastest; the canonical bytes are not needed afterwards. Three families:
//   cpu.int8         codes are expanded to bytes on the way, integer dot products (AVX2, AVX-512
//                    VNNI, AMX tiles)
//   cpu.bits         AND + popcount over bit planes (AVX2, AVX-512 VPOPCNTDQ), per channel only,
//                    preferred for the narrowest pair
//   cpu.weight_only  float activations (A16): few tokens in block fixed point, many through the
//                    float GEMM
// quant/gemm_variants.def lists them with their limits; the default choice is quant::select_gemm.
// docs/kernels.md tells the whole story.
//
// Exactness. Per channel, the integer identity (quant/reference_gemm.h) is evaluated whole in int32
// and rounded once per factor: the bits of y do not depend on M, the instruction set or the
// threads. Where K (levels - 1) (2^a - 1) reaches 2^31, K is cut into chunks below the bound, their
// int32 sums are added in int64, and the float factor is applied in float64. With groups, each
// group's integer sum is exact and the groups are added in float32 in an order that depends on the
// instruction set and on whether the GEMM or the GEMV ran, never on the threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "quant/affine.h"
#include "quant/gemm_variants.h"
#include "quant/packed_layout.h"
#include "runtime/cpu/packed_tokens.h"
#include "runtime/stored_weights.h"
#include "support/cpu_features.h"
#include "support/matrix_view.h"
#include "support/status.h"

namespace abq::runtime {

class QuantizedLinear {
 public:
  // Checks everything and repacks, row by row on all threads; needs the repacked size and a few
  // rows of scratch per thread. `activation_bits` is 1..8 or 16. InvalidArgument for sizes and
  // widths that do not go together, Corrupt for codes, scales or zero points out of range,
  // Unsupported when `family` cannot run the layer.
  static Result<std::unique_ptr<QuantizedLinear>> prepare(const StoredWeights& stored,
                                                          int activation_bits,
                                                          CpuIsa isa = cpu_isa());
  static Result<std::unique_ptr<QuantizedLinear>> prepare(const StoredWeights& stored,
                                                          int activation_bits, CpuIsa isa,
                                                          quant::GemmFamily family);

  virtual ~QuantizedLinear() = default;

  virtual int64_t n() const = 0;
  virtual int64_t k() const = 0;
  // Bytes that the repacked weights hold in memory.
  virtual int64_t resident_bytes() const = 0;
  // Name of the kernel that runs for M tokens, e.g. "cpu.int8 gemv avx2".
  virtual std::string_view kernel_name(int64_t m) const = 0;

  // Y[M, N] from tokens of the width given to prepare(). A bug unless activation bits are 1..8 and
  // the shapes agree.
  virtual void run(const PackedTokens& x, MatrixView<float> y) const = 0;
  // Y[M, N] from float activations; a bug unless activation bits are 16.
  virtual void run_float(MatrixView<const float> x, MatrixView<float> y) const = 0;
  // sums[M, N, G]: sum over k of qx qw per group, through the kernels that run() uses. For tests
  // and self-checks; activation bits 1..8.
  virtual void accumulate(const PackedTokens& x, std::span<int64_t> sums) const = 0;
};

}  // namespace abq::runtime
