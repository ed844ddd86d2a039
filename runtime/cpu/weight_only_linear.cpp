// The weight-only family: float activations times weight codes.
//
// Few tokens: y = sum_g s_g (sum q x - z_g sum x), with x in block fixed point (kernels.h), so that
// the inner sums are exact integer products. Many tokens: the compute device's float product, whose
// packing asks for dequantized pieces of W that fit the first-level cache.
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

// From here on the float product's reuse of W makes up for its dequantization.
constexpr int64_t kMinProductTokens = 24;
constexpr int64_t kMaxReadCols = 256;

// Float activations in block fixed point, and the sums that zero points need.
struct FixedTokens {
  AlignedBuffer<float> padded;   // one token, zeros up to whole units
  AlignedBuffer<int8_t> digits;  // [M][units][kDigitBytes]
  AlignedBuffer<float> steps;    // [M][units]
  AlignedBuffer<int32_t> sums32;
  AlignedBuffer<float> group_sums;  // [M][block_entries]
};

class WeightOnlyLinear final : public QuantizedLinear, private compute::WeightSource {
 public:
  WeightOnlyLinear(FieldWeights weights, const Kernels& kernels)
      : w_(std::move(weights)),
        kernels_(kernels),
        gemv_name_(fmt::format("cpu.weight_only gemv {}", kernels.name)),
        product_name_(fmt::format("cpu.weight_only gemm {}", kernels.name)) {}

  int64_t n() const override { return w_.n; }
  int64_t k() const override { return w_.k; }
  int64_t resident_bytes() const override { return w_.bytes(); }
  std::string_view kernel_name(int64_t m) const override {
    return m >= kMinProductTokens ? product_name_ : gemv_name_;
  }

  void run(const PackedTokens&, MatrixView<float>) const override {
    ABQ_CHECK(!"run() needs weights prepared for activations of 1..8 bits");
  }
  void accumulate(const PackedTokens&, std::span<int64_t>) const override {
    ABQ_CHECK(!"accumulate() needs weights prepared for activations of 1..8 bits");
  }

  void run_float(MatrixView<const float> x, MatrixView<float> y) const override {
    ABQ_CHECK(x.cols == w_.k && y.rows == x.rows && y.cols == w_.n);
    if (x.rows >= kMinProductTokens) {
      compute::cpu_device().linear(x, static_cast<const compute::WeightSource&>(*this), y);
    } else {
      run_gemv(x, y);
    }
  }

 private:
  int float_centre() const { return kernels_.float_centre[w_.code_bits]; }

  void run_gemv(MatrixView<const float> x, MatrixView<float> y) const {
    thread_local FixedTokens scratch;
    split_tokens(x, scratch);
    const FixedTokens& tokens = scratch;
    const int64_t step = blocks_per_task(w_.blocks, w_.block_bytes());
    parallel_for((w_.blocks + step - 1) / step, [&](int64_t task) {
      for (int64_t b = task * step; b < std::min(w_.blocks, (task + 1) * step); ++b)
        for (int64_t t = 0; t < x.rows; t += kDotTokens)
          run_block(b, t, std::min<int64_t>(kDotTokens, x.rows - t), tokens, y);
    });
  }

  void split_tokens(MatrixView<const float> x, FixedTokens& tokens) const {
    const int64_t padded_k = w_.units * kUnitCodes;
    tokens.padded.resize(padded_k);
    std::fill_n(tokens.padded.data() + w_.k, padded_k - w_.k, 0.0f);
    tokens.digits.resize(x.rows * w_.units * kDigitBytes);
    tokens.steps.resize(x.rows * w_.units);
    tokens.sums32.resize(x.rows * w_.units * 4);
    for (int64_t t = 0; t < x.rows; ++t) {
      std::copy_n(x.row(t), w_.k, tokens.padded.data());
      kernels_.split_floats(
          tokens.padded.data(), w_.units, tokens.digits.data() + t * w_.units * kDigitBytes,
          tokens.steps.data() + t * w_.units, tokens.sums32.data() + t * w_.units * 4);
    }
    // Per channel, the group is all of the padded row. These are the sums of the integers, not of
    // x: what the weights' zero points take out is then exactly what the dot products put in.
    const int64_t parts = w_.groups_per_unit == 0 ? w_.units * 4 : 4 / w_.groups_per_unit;
    const auto sum_of = [&](int64_t t, int64_t g) {
      double sum = 0;
      for (int64_t part = g * parts; part < (g + 1) * parts; ++part) {
        sum += static_cast<double>(tokens.steps[t * w_.units + part / 4]) *
               tokens.sums32[t * w_.units * 4 + part];
      }
      return static_cast<float>(sum);
    };
    expand_group_sums(w_, x.rows, tokens.group_sums, sum_of);
  }

  void run_block(int64_t block, int64_t token, int64_t count, const FixedTokens& tokens,
                 MatrixView<float> y) const {
    const bool grouped = w_.groups_per_unit != 0;
    float sums[kDotTokens * kBlockRows];
    DotArgs args;
    args.weights = w_.block(block);
    args.units = w_.units;
    args.token_stride = w_.units * kDigitBytes;
    args.tokens = tokens.digits.data() + token * args.token_stride;
    args.token_steps_stride = w_.units;
    args.token_steps = tokens.steps.data() + token * w_.units;
    args.count = static_cast<int>(count);
    args.scales = w_.scales.data() + block * w_.block_entries;
    kernels_.float_dot[w_.code_bits][grouped ? 1 + w_.groups_per_unit / 2 : 0](args, sums);
    const int64_t row = block * kBlockRows;
    const int64_t rows = std::min<int64_t>(kBlockRows, w_.n - row);
    for (int64_t t = 0; t < count; ++t) {
      const float* token_sums = tokens.group_sums.data() + (token + t) * w_.block_entries;
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

  // The compute device reads W through these.
  int64_t rows() const override { return w_.n; }
  int64_t cols() const override { return w_.k; }
  void read(int64_t first_row, int64_t rows, int64_t first_col, int64_t cols, float* out,
            int64_t stride) const override {
    int8_t codes[kBlockRows * kMaxReadCols];
    const int64_t group = w_.groups_per_unit == 0 ? cols : kUnitCodes / w_.groups_per_unit;
    const int64_t first_group = w_.groups_per_unit == 0 ? 0 : first_col / group;
    const int centre = kernels_.expand_centre[w_.code_bits];
    for (int64_t row = first_row; row < first_row + rows; ++row, out += stride) {
      const int64_t in_block = row % kBlockRows;
      if (in_block == 0) {
        const uint8_t* block =
            w_.block(row / kBlockRows) + first_col / kUnitCodes * kBlockRows * w_.unit_bytes();
        kernels_.expand[w_.code_bits](block, (cols + kUnitCodes - 1) / kUnitCodes, codes,
                                      kMaxReadCols);
      }
      for (int64_t c = 0; c < cols; c += group) {
        const int64_t g = first_group + c / group;
        kernels_.dequantize(codes + in_block * kMaxReadCols + c, group, w_.scales[w_.entry(row, g)],
                            zero_of(row, g, centre), out + c);
      }
    }
  }

  FieldWeights w_;
  const Kernels& kernels_;
  std::string gemv_name_;
  std::string product_name_;
};

}  // namespace

Result<std::unique_ptr<QuantizedLinear>> make_weight_only_linear(const StoredWeights& stored,
                                                                 const Kernels& kernels) {
  ABQ_ASSIGN_OR_RETURN(FieldWeights weights, make_field_weights(stored));
  return std::unique_ptr<QuantizedLinear>(
      std::make_unique<WeightOnlyLinear>(std::move(weights), kernels));
}

}  // namespace abq::runtime
