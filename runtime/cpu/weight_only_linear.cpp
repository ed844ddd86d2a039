// The weight-only family: float activations times weight codes expanded to float.
//
// Few tokens: y = sum_g s_g (sum q x - z_g sum x), codes expanded in registers. Many tokens: strips
// of W are dequantized to float32 and multiplied by the compute device.
#include <algorithm>
#include <cstring>
#include <string>

#include "compute/device.h"
#include "runtime/cpu/families.h"
#include "runtime/cpu/field_weights.h"
#include "runtime/cpu/group_terms.h"
#include "support/parallel.h"

namespace abq::runtime {
namespace {

// From here on one dequantization of W costs less than M passes over its codes.
constexpr int64_t kMinStripTokens = 12;
// Float values of W held at once for many tokens.
constexpr int64_t kStripFloats = 8 << 20;

class WeightOnlyLinear final : public QuantizedLinear {
 public:
  WeightOnlyLinear(FieldWeights weights, const Kernels& kernels)
      : w_(std::move(weights)),
        kernels_(kernels),
        gemv_name_(fmt::format("cpu.weight_only gemv {}", kernels.name)),
        strip_name_(fmt::format("cpu.weight_only strips {}", kernels.name)) {}

  int64_t n() const override { return w_.n; }
  int64_t k() const override { return w_.k; }
  int64_t resident_bytes() const override { return w_.bytes(); }
  std::string_view kernel_name(int64_t m) const override {
    return m >= kMinStripTokens ? strip_name_ : gemv_name_;
  }

  void run(const PackedTokens&, MatrixView<float>) const override {
    ABQ_CHECK(!"run() needs weights prepared for activations of 1..8 bits");
  }
  void accumulate(const PackedTokens&, std::span<int64_t>) const override {
    ABQ_CHECK(!"accumulate() needs weights prepared for activations of 1..8 bits");
  }

  void run_float(MatrixView<const float> x, MatrixView<float> y) const override {
    ABQ_CHECK(x.cols == w_.k && y.rows == x.rows && y.cols == w_.n);
    if (x.rows >= kMinStripTokens) {
      run_strips(x, y);
    } else {
      run_gemv(x, y);
    }
  }

 private:
  int float_centre() const { return kernels_.float_centre[w_.code_bits]; }

  void run_gemv(MatrixView<const float> x, MatrixView<float> y) const {
    thread_local AlignedBuffer<float> padded, group_sums;
    const int64_t padded_k = w_.units * kUnitCodes;
    padded.resize(x.rows * padded_k);
    for (int64_t t = 0; t < x.rows; ++t)
      arrange_token(x.row(t), padded.data() + t * padded_k);
    const int64_t group = w_.k / w_.groups();
    const auto sum_of = [&](int64_t t, int64_t g) {
      double sum = 0;
      for (int64_t j = g * group; j < (g + 1) * group; ++j)
        sum += x.row(t)[j];
      return static_cast<float>(sum);
    };
    expand_group_sums(w_, x.rows, group_sums, sum_of);
    const float* tokens = padded.data();
    const float* sums = group_sums.data();
    const int64_t step = blocks_per_task(w_.blocks, w_.block_bytes());
    parallel_for((w_.blocks + step - 1) / step, [&](int64_t task) {
      for (int64_t b = task * step; b < std::min(w_.blocks, (task + 1) * step); ++b)
        for (int64_t t = 0; t < x.rows; t += kDotTokens)
          run_block(b, t, std::min<int64_t>(kDotTokens, x.rows - t), tokens, sums, y);
    });
  }

  // Copies a token in the order that float_dot wants, padded with zeros to whole units.
  void arrange_token(const float* in, float* out) const {
    std::copy_n(in, w_.k, out);
    std::fill_n(out + w_.k, w_.units * kUnitCodes - w_.k, 0.0f);
    if (kernels_.float_order == FloatOrder::kNatural) return;
    for (int64_t half = 0; half < 2 * w_.units; ++half, out += 64) {
      float natural[64];
      std::copy_n(out, 64, natural);
      for (int l = 0; l < 16; ++l)
        for (int b = 0; b < 4; ++b)
          out[16 * b + l] = natural[4 * l + b];
    }
  }

  void run_block(int64_t block, int64_t token, int64_t count, const float* tokens,
                 const float* group_sums, MatrixView<float> y) const {
    const bool grouped = w_.groups_per_unit != 0;
    const int64_t padded_k = w_.units * kUnitCodes;
    float sums[kDotTokens * kBlockRows];
    DotArgs args;
    args.weights = w_.block(block);
    args.units = w_.units;
    args.tokens = tokens + token * padded_k;
    args.token_stride = padded_k;
    args.count = static_cast<int>(count);
    args.scales = w_.scales.data() + block * w_.block_entries;
    kernels_.float_dot[w_.code_bits][grouped ? 1 + w_.groups_per_unit / 2 : 0](args, sums);
    const int64_t row = block * kBlockRows;
    const int64_t rows = std::min<int64_t>(kBlockRows, w_.n - row);
    for (int64_t t = 0; t < count; ++t) {
      const float* token_sums = group_sums + (token + t) * w_.block_entries;
      float zeros[kBlockRows];
      if (grouped) block_zero_terms(w_, kernels_, block, float_centre(), token_sums, zeros);
      for (int64_t r = 0; r < rows; ++r) {
        const float sum = sums[t * kBlockRows + r];
        y.row(token + t)[row + r] =
            grouped
                ? sum - zeros[r]
                : w_.scales[row + r] * (sum - zero_of(row + r, 0, float_centre()) * token_sums[r]);
      }
    }
  }

  // Zero point less a centre.
  float zero_of(int64_t row, int64_t group, int centre) const {
    return static_cast<float>(w_.zeros[w_.entry(row, group)]) / static_cast<float>(w_.denominator) -
           static_cast<float>(centre);
  }

  void run_strips(MatrixView<const float> x, MatrixView<float> y) const {
    thread_local AlignedBuffer<float> buffer;
    const int64_t strip_rows =
        std::max<int64_t>(kTileRows, kStripFloats / w_.k / kTileRows * kTileRows);
    buffer.resize(std::min(strip_rows, w_.blocks * kBlockRows) * w_.k);
    float* strip = buffer.data();
    for (int64_t row = 0; row < w_.n; row += strip_rows) {
      const int64_t rows = std::min(strip_rows, w_.n - row);
      parallel_for((rows + kBlockRows - 1) / kBlockRows, [&](int64_t b) {
        dequantize_block(row / kBlockRows + b, strip + b * kBlockRows * w_.k);
      });
      const compute::FloatMatrix w = {compute::FloatType::kF32, strip, rows, w_.k};
      compute::cpu_device().linear(x, w, {y.data + row, y.rows, rows, y.stride});
    }
  }

  void dequantize_block(int64_t block, float* out) const {
    thread_local AlignedBuffer<int8_t> codes;
    const int64_t stride = w_.units * kUnitCodes;
    codes.resize(kBlockRows * stride);
    kernels_.expand[w_.code_bits](w_.block(block), w_.units, codes.data(), stride);
    const int64_t group = w_.k / w_.groups();
    const int64_t rows = std::min<int64_t>(kBlockRows, w_.n - block * kBlockRows);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t row = block * kBlockRows + r;
      for (int64_t g = 0; g < w_.groups(); ++g) {
        kernels_.dequantize(
            codes.data() + r * stride + g * group, group, w_.scales[w_.entry(row, g)],
            zero_of(row, g, kernels_.expand_centre[w_.code_bits]), out + r * w_.k + g * group);
      }
    }
  }

  FieldWeights w_;
  const Kernels& kernels_;
  std::string gemv_name_;
  std::string strip_name_;
};

}  // namespace

Result<std::unique_ptr<QuantizedLinear>> make_weight_only_linear(const StoredWeights& stored,
                                                                 const Kernels& kernels) {
  ABQ_ASSIGN_OR_RETURN(FieldWeights weights, make_field_weights(stored));
  return std::unique_ptr<QuantizedLinear>(
      std::make_unique<WeightOnlyLinear>(std::move(weights), kernels));
}

}  // namespace abq::runtime
