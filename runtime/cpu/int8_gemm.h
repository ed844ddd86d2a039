// Many tokens at once for the int8 family: tiles of up to 64 rows by 256 tokens, K in pieces of
// 1024 codes that are expanded once per tile.
#pragma once

#include <span>

#include "runtime/cpu/field_weights.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/packed_tokens.h"
#include "support/matrix_view.h"

namespace abq::runtime {

// Per-channel constants of the epilogue (FinishArgs), padded to whole blocks.
struct ChannelTerms {
  AlignedBuffer<int32_t> zeros;      // zero point - denominator centre
  AlignedBuffer<int32_t> row_terms;  // K zero point - denominator sum of codes
  AlignedBuffer<float> scales;       // scale / denominator
};
ChannelTerms make_channel_terms(const FieldWeights& w, int centre);

// x must have panels; per channel, K must fit int32.
void gemm_channels(const FieldWeights& w, const ChannelTerms& terms, const GemmPlan& plan,
                   const Kernels& kernels, const PackedTokens& x, MatrixView<float> y);
void gemm_groups(const FieldWeights& w, const GemmPlan& plan, const PackedTokens& x,
                 MatrixView<float> y);
// sums[M, N, G] = sum of qx qw, through the same kernels.
void gemm_code_products(const FieldWeights& w, const GemmPlan& plan, const PackedTokens& x,
                        std::span<int64_t> sums);

}  // namespace abq::runtime
