#include "runtime/cpu/packed_tokens.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "quant/affine.h"
#include "runtime/cpu/kernels.h"
#include "support/parallel.h"
#include "support/status.h"

namespace abq::runtime {
namespace {

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Tokens per task: enough codes to be worth a task.
int64_t tokens_per_task(int64_t k) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(k, 1));
}

template <class Body>
void for_tokens(int64_t m, int64_t k, const Body& body) {
  const int64_t step = tokens_per_task(k);
  parallel_for((m + step - 1) / step, [&](int64_t task) {
    for (int64_t t = task * step; t < std::min(m, (task + 1) * step); ++t)
      body(t);
  });
}

}  // namespace

void PackedTokens::pack_rows(const TokenRow& row, CpuIsa isa) {
  const Kernels& kernels = kernels_for(isa);
  const int64_t padded_m = round_up(m_, kPanelTokens);
  codes_.resize(m_ * padded_k_);
  scales_.resize(padded_m);
  zeros_.resize(padded_m);
  sums_.resize(padded_m);
  sums32_.resize(m_ * (padded_k_ / 32));
  std::fill(scales_.data() + m_, scales_.data() + padded_m, 0.0f);
  std::fill(zeros_.data() + m_, zeros_.data() + padded_m, 0);
  std::fill(sums_.data() + m_, sums_.data() + padded_m, 0);
  for_tokens(m_, k_, [&](int64_t t) {
    const float* const values = row(t);
    std::array<float, 2> range;
    kernels.min_max(values, k_, &range[0], &range[1]);
    // The parameters depend on the extremes alone, so that the one definition serves here too.
    const quant::AffineParams params = quant::token_params(range, bits_);
    uint8_t* codes = codes_.data() + t * padded_k_;
    kernels.quantize(values, k_, params.scale, params.zero, (1 << bits_) - 1, codes);
    std::memset(codes + k_, 0, static_cast<size_t>(padded_k_ - k_));
    int32_t* sums32 = sums32_.data() + t * (padded_k_ / 32);
    kernels.sum32(codes, padded_k_ / 32, sums32);
    int32_t sum = 0;
    for (int64_t i = 0; i < padded_k_ / 32; ++i)
      sum += sums32[i];
    scales_[t] = params.scale;
    zeros_[t] = params.zero;
    sums_[t] = sum;
  });
}

void PackedTokens::make_panels() {
  const int64_t panels = (m_ + kPanelTokens - 1) / kPanelTokens;
  panels_.resize(panels * kPanelTokens * padded_k_);
  // Pieces of K small enough that the 16 rows read stay in the first cache.
  constexpr int64_t kPiece = 512;
  const int64_t pieces = (padded_k_ + kPiece - 1) / kPiece;
  parallel_for(panels * pieces, [&](int64_t task) {
    const int64_t panel = task / pieces;
    const int64_t begin = task % pieces * kPiece;
    const int64_t end = std::min(begin + kPiece, padded_k_);
    uint8_t* out = panels_.data() + panel * kPanelTokens * padded_k_;
    for (int64_t t = 0; t < kPanelTokens; ++t) {
      const int64_t token = panel * kPanelTokens + t;
      const uint8_t* in = token < m_ ? codes(token) : nullptr;
      for (int64_t at = begin; at < end; at += 4) {
        uint32_t four = 0;
        if (in != nullptr) std::memcpy(&four, in + at, 4);
        std::memcpy(out + at * kPanelTokens + 4 * t, &four, 4);
      }
    }
  });
}

void PackedTokens::make_planes() {
  const int64_t bytes = plane_bytes(k_);
  planes_.resize(m_ * bits_ * bytes);
  for_tokens(m_, k_, [&](int64_t t) {
    uint8_t* out = planes_.data() + t * bits_ * bytes;
    std::memset(out, 0, static_cast<size_t>(bits_ * bytes));
    const uint8_t* in = codes(t);
    for (int64_t at = 0; at < padded_k_; at += 8) {
      for (int b = 0; b < bits_; ++b) {
        int byte = 0;
        for (int i = 0; i < 8; ++i)
          byte |= ((in[at + i] >> b) & 1) << i;
        out[b * bytes + at / 8] = static_cast<uint8_t>(byte);
      }
    }
  });
}

void pack_tokens(int64_t m, int64_t k, const TokenRow& row, int bits, PackedTokens& out, CpuIsa isa,
                 bool with_planes) {
  ABQ_CHECK(bits >= 1 && bits <= 8);
  out.bits_ = bits;
  out.m_ = m;
  out.k_ = k;
  out.padded_k_ = round_up(k, kUnitCodes);
  out.pack_rows(row, isa);
  out.panels_.resize(0);
  out.planes_.resize(0);
  const int gemm_min = kernels_for(isa).gemm_min_tokens;
  if (gemm_min > 0 && m >= gemm_min) out.make_panels();
  if (with_planes) out.make_planes();
}

void pack_tokens(MatrixView<const float> x, int bits, PackedTokens& out, CpuIsa isa,
                 bool with_planes) {
  pack_tokens(
      x.rows, x.cols, [&x](int64_t token) { return x.row(token); }, bits, out, isa, with_planes);
}

}  // namespace abq::runtime
