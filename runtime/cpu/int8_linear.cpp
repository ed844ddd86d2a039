// The int8 family: a GEMV over blocks of four rows for few tokens, int8_gemm.h for many.
#include <algorithm>
#include <string>

#include "quant/reference_gemm.h"
#include "runtime/cpu/families.h"
#include "runtime/cpu/field_weights.h"
#include "runtime/cpu/group_terms.h"
#include "runtime/cpu/int8_gemm.h"
#include "support/parallel.h"

namespace abq::runtime {
namespace {

// Units of K whose products fit int32; all of them for every usual K.
int64_t units_per_chunk(const FieldWeights& w, int activation_bits) {
  if (quant::fits_int32(w.k, w.max_code, activation_bits)) return w.units;
  const int64_t largest = int64_t{w.max_code} * ((1 << activation_bits) - 1);
  return INT32_MAX / largest / kUnitCodes;
}

class Int8Linear final : public QuantizedLinear {
 public:
  Int8Linear(FieldWeights weights, int activation_bits, const Kernels& kernels)
      : w_(std::move(weights)),
        kernels_(kernels),
        activation_bits_(activation_bits),
        chunk_units_(units_per_chunk(w_, activation_bits)),
        gemv_name_(fmt::format("cpu.int8 gemv {}", kernels.name)),
        gemm_name_(fmt::format("cpu.int8 gemm {}", kernels.name)) {
    if (kernels.gemm_plan != nullptr) {
      plan_ = kernels.gemm_plan(w_.code_bits, (1 << activation_bits) - 1, grouped());
    }
    if (grouped()) return;
    terms_ = make_channel_terms(w_, centre());
    gemm_terms_ = make_channel_terms(w_, plan_.centre);
  }

  int64_t n() const override { return w_.n; }
  int64_t k() const override { return w_.k; }
  int64_t resident_bytes() const override { return w_.bytes(); }
  std::string_view kernel_name(int64_t m) const override {
    return use_gemm(m) ? gemm_name_ : gemv_name_;
  }

  void run(const PackedTokens& x, MatrixView<float> y) const override {
    check(x);
    ABQ_CHECK(y.rows == x.m() && y.cols == w_.n);
    const bool gemm = use_gemm(x.m()) && x.has_panels();
    if (grouped()) {
      gemm ? gemm_groups(w_, plan_, x, y) : run_groups(x, y);
    } else if (gemm) {
      gemm_channels(w_, gemm_terms_, plan_, kernels_, x, y);
    } else {
      run_channels(x, y);
    }
  }

  void run_float(MatrixView<const float>, MatrixView<float>) const override {
    ABQ_CHECK(!"run_float() needs weights prepared for 16-bit activations");
  }

  void accumulate(const PackedTokens& x, std::span<int64_t> sums) const override {
    check(x);
    ABQ_CHECK(static_cast<int64_t>(sums.size()) == x.m() * w_.n * w_.groups());
    if (use_gemm(x.m()) && x.has_panels()) {
      gemm_code_products(w_, plan_, x, sums);
    } else if (grouped()) {
      accumulate_groups(x, sums);
    } else {
      for_blocks(x, [&](int64_t block, int64_t token, int count) {
        int64_t products[kDotTokens * kBlockRows];
        block_products(x, block, token, count, products);
        for_outputs(block, token, count, [&](int64_t row, int64_t t, int at) {
          sums[static_cast<size_t>(t * w_.n + row)] =
              products[at] + int64_t{centre()} * x.sums()[t];
        });
      });
    }
  }

 private:
  bool grouped() const { return w_.groups_per_unit != 0; }
  int centre() const { return kernels_.dot_centre[w_.code_bits]; }
  bool use_gemm(int64_t m) const {
    return plan_.run != nullptr && m >= plan_.min_tokens && chunk_units_ >= w_.units;
  }
  void check(const PackedTokens& x) const {
    ABQ_CHECK(x.bits() == activation_bits_ && x.k() == w_.k);
  }

  // body(block, first token, tokens) over all blocks and batches of tokens.
  template <class Body>
  void for_blocks(const PackedTokens& x, const Body& body) const {
    const int64_t step = blocks_per_task(w_.blocks, w_.block_bytes());
    parallel_for((w_.blocks + step - 1) / step, [&](int64_t task) {
      for (int64_t b = task * step; b < std::min(w_.blocks, (task + 1) * step); ++b) {
        for (int64_t t = 0; t < x.m(); t += kDotTokens)
          body(b, t, static_cast<int>(std::min<int64_t>(kDotTokens, x.m() - t)));
      }
    });
  }

  // body(row, token, index into [token][4]) over the rows of a block that exist.
  template <class Body>
  void for_outputs(int64_t block, int64_t token, int count, const Body& body) const {
    const int64_t row = block * kBlockRows;
    const int rows = static_cast<int>(std::min<int64_t>(kBlockRows, w_.n - row));
    for (int t = 0; t < count; ++t)
      for (int r = 0; r < rows; ++r)
        body(row + r, token + t, t * kBlockRows + r);
  }

  DotArgs dot_args(const PackedTokens& x, int64_t block, int64_t token, int count, int64_t unit,
                   int64_t units) const {
    DotArgs args;
    args.weights = w_.block(block) + unit * kBlockRows * w_.unit_bytes();
    args.units = units;
    args.tokens = x.codes(token) + unit * kUnitCodes;
    args.token_stride = x.padded_k();
    args.count = count;
    return args;
  }

  // sum (qw - centre) qx, K in chunks that fit int32.
  void block_products(const PackedTokens& x, int64_t block, int64_t token, int count,
                      int64_t* products) const {
    std::fill_n(products, count * kBlockRows, 0);
    for (int64_t unit = 0; unit < w_.units; unit += chunk_units_) {
      int32_t sums[kDotTokens * kBlockRows];
      const int64_t units = std::min(chunk_units_, w_.units - unit);
      kernels_.dot[w_.code_bits](dot_args(x, block, token, count, unit, units), sums);
      for (int i = 0; i < count * kBlockRows; ++i)
        products[i] += sums[i];
    }
  }

  void run_channels(const PackedTokens& x, MatrixView<float> y) const {
    for_blocks(x, [&](int64_t block, int64_t token, int count) {
      int64_t products[kDotTokens * kBlockRows];
      block_products(x, block, token, count, products);
      for_outputs(block, token, count, [&](int64_t row, int64_t t, int at) {
        const int64_t x_zero = x.zeros()[t];
        const int64_t integer = w_.denominator * products[at] -
                                int64_t{terms_.zeros[row]} * x.sums()[t] +
                                x_zero * (w_.k * w_.zeros[row] - w_.denominator * w_.sums[row]);
        // The same roundings as the GEMM's epilogue; float64 only where int32 would not do.
        const float scale = x.scales()[t] * terms_.scales[row];
        y.row(t)[row] = chunk_units_ >= w_.units
                            ? static_cast<float>(static_cast<int32_t>(integer)) * scale
                            : static_cast<float>(static_cast<double>(integer) * scale);
      });
    });
  }

  void run_groups(const PackedTokens& x, MatrixView<float> y) const {
    thread_local AlignedBuffer<float> buffer;
    expand_group_sums(w_, x.m(), buffer, [&](int64_t t, int64_t group) {
      const int parts = 4 / w_.groups_per_unit;
      int32_t sum = 0;
      for (int p = 0; p < parts; ++p)
        sum += x.sums32(t)[group * parts + p];
      return static_cast<float>(sum);
    });
    const float* token_sums = buffer.data();
    const int log2 = w_.groups_per_unit / 2;
    for_blocks(x, [&](int64_t block, int64_t token, int count) {
      float sums[kDotTokens * kBlockRows];
      DotArgs args = dot_args(x, block, token, count, 0, w_.units);
      args.scales = w_.scales.data() + block * w_.block_entries;
      kernels_.grouped_dot[w_.code_bits][log2](args, sums);
      float zeros[kDotTokens * kBlockRows];
      for (int t = 0; t < count; ++t) {
        block_zero_terms(w_, kernels_, block, centre(), token_sums + (token + t) * w_.block_entries,
                         zeros + t * kBlockRows);
      }
      for_outputs(block, token, count, [&](int64_t row, int64_t t, int at) {
        const float x_zero = static_cast<float>(x.zeros()[t]);
        y.row(t)[row] = x.scales()[t] * (sums[at] - zeros[at] - x_zero * w_.offsets[row]);
      });
    });
  }

  // The group kernel over one unit with scale 1 for one group and 0 elsewhere: that group's sum.
  void accumulate_groups(const PackedTokens& x, std::span<int64_t> sums) const {
    const int gpu = w_.groups_per_unit;
    for_blocks(x, [&](int64_t block, int64_t token, int count) {
      for (int64_t group = 0; group < w_.groups(); ++group) {
        float scales[kBlockRows * 4];
        for (int i = 0; i < kBlockRows * gpu; ++i)
          scales[i] = i % gpu == group % gpu ? 1.0f : 0.0f;
        float values[kDotTokens * kBlockRows];
        DotArgs args = dot_args(x, block, token, count, group / gpu, 1);
        args.scales = scales;
        kernels_.grouped_dot[w_.code_bits][gpu / 2](args, values);
        for_outputs(block, token, count, [&](int64_t row, int64_t t, int at) {
          int64_t token_sum = 0;
          for (int p = 0; p < 4 / gpu; ++p)
            token_sum += x.sums32(t)[group * (4 / gpu) + p];
          sums[static_cast<size_t>((t * w_.n + row) * w_.groups() + group)] =
              static_cast<int64_t>(values[at]) + centre() * token_sum;
        });
      }
    });
  }

  FieldWeights w_;
  const Kernels& kernels_;
  int activation_bits_;
  int64_t chunk_units_;
  GemmPlan plan_ = {};
  ChannelTerms terms_;
  ChannelTerms gemm_terms_;
  std::string gemv_name_;
  std::string gemm_name_;
};

}  // namespace

Result<std::unique_ptr<QuantizedLinear>> make_int8_linear(const StoredWeights& stored,
                                                          int activation_bits,
                                                          const Kernels& kernels) {
  ABQ_ASSIGN_OR_RETURN(FieldWeights weights, make_field_weights(stored));
  return std::unique_ptr<QuantizedLinear>(
      std::make_unique<Int8Linear>(std::move(weights), activation_bits, kernels));
}

}  // namespace abq::runtime
