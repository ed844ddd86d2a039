// The bit family: AND + popcount over bit planes, for every pair of widths, per channel.
//   sum qx qw = sum_{i<p} sum_{j<q} 2^(i+j) popcount(plane_i(qw) AND plane_j(qx))
#include <algorithm>
#include <string>
#include <vector>

#include "runtime/cpu/families.h"
#include "support/parallel.h"

namespace abq::runtime {
namespace {

class BitLinear final : public QuantizedLinear {
 public:
  BitLinear(const StoredWeights& stored, int activation_bits, const Kernels& kernels)
      : n_(stored.layout.n),
        k_(stored.layout.k),
        planes_(stored.spec.code_bits()),
        denominator_(stored.spec.zero_denominator()),
        activation_bits_(activation_bits),
        kernels_(kernels),
        name_(fmt::format("cpu.bits {}", kernels.name)),
        scales_(stored.scales.begin(), stored.scales.end()),
        zeros_(stored.zeros.begin(), stored.zeros.end()),
        sums_(static_cast<size_t>(n_)) {
    weights_.resize(n_ * row_bytes());
  }

  int64_t n() const override { return n_; }
  int64_t k() const override { return k_; }
  int64_t resident_bytes() const override {
    return weights_.bytes() + n_ * static_cast<int64_t>(sizeof(float) + 1 + sizeof(int64_t));
  }
  std::string_view kernel_name(int64_t) const override { return name_; }

  // Planes of one row from its codes.
  void set_row(int64_t row, std::span<const uint8_t> codes) {
    uint8_t* out = weights_.data() + row * row_bytes();
    std::fill_n(out, row_bytes(), uint8_t{0});
    int64_t sum = 0;
    for (size_t j = 0; j < codes.size(); ++j) {
      sum += codes[j];
      for (int b = 0; b < planes_; ++b) {
        uint8_t& byte = out[b * PackedTokens::plane_bytes(k_) + static_cast<int64_t>(j / 8)];
        byte = static_cast<uint8_t>(byte | ((codes[j] >> b) & 1) << (j % 8));
      }
    }
    sums_[static_cast<size_t>(row)] = sum;
  }

  void run(const PackedTokens& x, MatrixView<float> y) const override {
    ABQ_CHECK(y.rows == x.m() && y.cols == n_);
    for_products(x, [&](int64_t t, int64_t row, int64_t product) {
      const size_t r = static_cast<size_t>(row);
      const int64_t x_zero = x.zeros()[t];
      const int64_t integer = denominator_ * (product - x_zero * sums_[r]) -
                              int64_t{zeros_[r]} * (x.sums()[t] - k_ * x_zero);
      const float scale = x.scales()[t] * (scales_[r] / static_cast<float>(denominator_));
      y.row(t)[row] = static_cast<float>(static_cast<double>(integer) * scale);
    });
  }

  void run_float(MatrixView<const float>, MatrixView<float>) const override {
    ABQ_CHECK(!"run_float() needs weights prepared for 16-bit activations");
  }

  void accumulate(const PackedTokens& x, std::span<int64_t> sums) const override {
    ABQ_CHECK(static_cast<int64_t>(sums.size()) == x.m() * n_);
    for_products(x, [&](int64_t t, int64_t row, int64_t product) {
      sums[static_cast<size_t>(t * n_ + row)] = product;
    });
  }

 private:
  int64_t row_bytes() const { return planes_ * PackedTokens::plane_bytes(k_); }

  template <class Body>
  void for_products(const PackedTokens& x, const Body& body) const {
    ABQ_CHECK(x.bits() == activation_bits_ && x.k() == k_ && x.has_planes());
    const int64_t step = std::max<int64_t>((96 << 10) / row_bytes(), (n_ + 127) / 128);
    parallel_for((n_ + step - 1) / step, [&](int64_t task) {
      for (int64_t row = task * step; row < std::min(n_, (task + 1) * step); ++row) {
        for (int64_t t = 0; t < x.m(); ++t) {
          body(t, row,
               kernels_.bit_dot(weights_.data() + row * row_bytes(), planes_, x.planes(t),
                                activation_bits_, PackedTokens::plane_bytes(k_)));
        }
      }
    });
  }

  int64_t n_;
  int64_t k_;
  int planes_;
  int denominator_;
  int activation_bits_;
  const Kernels& kernels_;
  std::string name_;
  std::vector<float> scales_;
  std::vector<uint8_t> zeros_;
  std::vector<int64_t> sums_;
  AlignedBuffer<uint8_t> weights_;
};

}  // namespace

Result<std::unique_ptr<QuantizedLinear>> make_bit_linear(const StoredWeights& stored,
                                                         int activation_bits,
                                                         const Kernels& kernels) {
  auto linear = std::make_unique<BitLinear>(stored, activation_bits, kernels);
  const size_t row_bytes = static_cast<size_t>(stored.layout.row_bytes());
  const int64_t n = stored.layout.n;
  constexpr int64_t kRows = 64;
  std::vector<Status> statuses(static_cast<size_t>((n + kRows - 1) / kRows));
  parallel_for(static_cast<int64_t>(statuses.size()), [&](int64_t task) {
    std::vector<uint8_t> codes(static_cast<size_t>(stored.layout.k));
    Status& status = statuses[static_cast<size_t>(task)];
    for (int64_t row = task * kRows; row < std::min(n, (task + 1) * kRows) && status.ok(); ++row) {
      status = quant::unpack_row(
                   stored.layout,
                   stored.packed.subspan(static_cast<size_t>(row) * row_bytes, row_bytes), codes)
                   .with_context(fmt::format("row {}", row));
      if (status.ok()) linear->set_row(row, codes);
    }
  });
  for (const Status& status : statuses)
    ABQ_RETURN_IF_ERROR(status);
  return std::unique_ptr<QuantizedLinear>(std::move(linear));
}

}  // namespace abq::runtime
