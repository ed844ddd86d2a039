// Codes of tokens on the device, in all their forms, against quant::quantize_tokens.
#include <algorithm>
#include <limits>

#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/tokens/token_launchers.h"
#include "tokens_test_support.h"

namespace abq::runtime::cuda {
namespace {

enum Forms : unsigned { kPlaneForm = 1, kCodeForm = 2, kSumForm = 4, kGroupForm = 8, kAll = 15 };

// Every form of m tokens on the device, poisoned.
class TokenBuffers {
 public:
  TokenBuffers(int m, int k, int bits, unsigned forms = kAll)
      : m_(m),
        k_(k),
        bits_(bits),
        forms_(forms),
        tiles_(tiles_of(k, kTileDepth)),
        planes_(poisoned<uint32_t>(int64_t{m} * tiles_ * bits * 8)),
        codes_(poisoned<uint8_t>(int64_t{tiles_of(m, 8)} * tiles_ * kTileDepth * 8)),
        scales_(poisoned<float>(m)),
        zeros_(poisoned<int32_t>(m)),
        sums_(poisoned<int32_t>(m)),
        groups_(poisoned<int32_t>(int64_t{m} * tiles_ * 8)) {}

  TokenTiles view() {
    TokenTiles tokens;
    tokens.m = m_;
    tokens.k = k_;
    tokens.bits = bits_;
    tokens.planes = forms_ & kPlaneForm ? planes_.data() : nullptr;
    tokens.codes = forms_ & kCodeForm ? codes_.data() : nullptr;
    tokens.scales = scales_.data();
    tokens.zeros = zeros_.data();
    tokens.sums = forms_ & kSumForm ? sums_.data() : nullptr;
    tokens.group_sums = forms_ & kGroupForm ? groups_.data() : nullptr;
    return tokens;
  }

  void check(const quant::QuantizedTokens& expected, const std::string& what) const {
    REQUIRE(expected.m == m_);
    check_params(expected, what);
    if (forms_ & kCodeForm) check_codes(expected, what);
    if (forms_ & kPlaneForm) check_planes(expected, what);
    if (forms_ & kSumForm) check_sums(expected, what);
    if (forms_ & kGroupForm) check_groups(expected, what);
  }

  // All memory, the forms one after another.
  std::vector<uint8_t> bytes() const {
    std::vector<uint8_t> all;
    const auto append = [&](const auto& array) {
      const auto values = require_value(array.download());
      const auto* first = reinterpret_cast<const uint8_t*>(values.data());
      all.insert(all.end(), first, first + array.bytes());
    };
    append(planes_);
    append(codes_);
    append(scales_);
    append(zeros_);
    append(sums_);
    append(groups_);
    return all;
  }

 private:
  uint32_t code(const quant::QuantizedTokens& expected, int token, int column) const {
    return column < k_ ? expected.codes[static_cast<size_t>(int64_t{token} * k_ + column)] : 0u;
  }

  void check_params(const quant::QuantizedTokens& expected, const std::string& what) const {
    const std::vector<float> scales = require_value(scales_.download());
    const std::vector<int32_t> zeros = require_value(zeros_.download());
    for (size_t i = 0; i < static_cast<size_t>(m_); ++i) {
      if (std::bit_cast<uint32_t>(scales[i]) != std::bit_cast<uint32_t>(expected.scales[i]) ||
          zeros[i] != expected.zeros[i]) {
        FAIL(what << ": token " << i << " expected scale " << expected.scales[i] << " zero "
                  << int{expected.zeros[i]} << " got " << scales[i] << " " << zeros[i]);
      }
    }
  }

  void check_codes(const quant::QuantizedTokens& expected, const std::string& what) const {
    const std::vector<uint8_t> codes = require_value(codes_.download());
    for (int token = 0; token < m_; ++token) {
      for (int column = 0; column < k_; ++column) {
        const int64_t index =
            ((int64_t{token / 8} * 16 * tiles_ + column / 16) * 8 + token % 8) * 16 + column % 16;
        const uint32_t got = codes[static_cast<size_t>(index)];
        if (got != code(expected, token, column)) {
          FAIL(what << ": codes: token " << token << " column " << column << " expected "
                    << code(expected, token, column) << " got " << got);
        }
      }
    }
  }

  uint32_t plane_of(const quant::QuantizedTokens& expected, int token, int tile, int plane, int t,
                    int h, uint32_t& known) const {
    uint32_t word = 0;
    known = 0;
    for (int s = 0; s < 8; ++s) {
      for (int b = 0; b < 4; ++b) {
        const int column = tile * kTileDepth + tile_input(s, h, t, b);
        if (column >= k_) continue;
        known |= 1u << (8 * b + s);
        word |= ((code(expected, token, column) >> plane) & 1u) << (8 * b + s);
      }
    }
    return word;
  }

  void check_planes(const quant::QuantizedTokens& expected, const std::string& what) const {
    const std::vector<uint32_t> planes = require_value(planes_.download());
    size_t index = 0;
    for (int token = 0; token < m_; ++token) {
      for (int tile = 0; tile < tiles_; ++tile) {
        for (int plane = 0; plane < bits_; ++plane) {
          for (int word = 0; word < 8; ++word, ++index) {
            uint32_t known = 0;
            const uint32_t wanted =
                plane_of(expected, token, tile, plane, word / 2, word % 2, known);
            if ((planes[index] & known) != wanted) {
              FAIL(what << ": planes: token " << token << " tile " << tile << " plane " << plane
                        << " word (" << word / 2 << ", " << word % 2 << ") expected " << wanted
                        << " got " << planes[index] << " (mask " << known << ")");
            }
          }
        }
      }
    }
  }

  void check_sums(const quant::QuantizedTokens& expected, const std::string& what) const {
    const std::vector<int32_t> sums = require_value(sums_.download());
    for (int token = 0; token < m_; ++token) {
      int32_t sum = 0;
      for (int column = 0; column < k_; ++column)
        sum += static_cast<int32_t>(code(expected, token, column));
      if (sums[static_cast<size_t>(token)] != sum) {
        FAIL(what << ": sums: token " << token << " expected " << sum << " got "
                  << sums[static_cast<size_t>(token)]);
      }
    }
  }

  void check_groups(const quant::QuantizedTokens& expected, const std::string& what) const {
    const std::vector<int32_t> groups = require_value(groups_.download());
    for (int token = 0; token < m_; ++token) {
      for (int group = 0; group < 8 * tiles_; ++group) {
        int32_t sum = 0;
        for (int column = 32 * group; column < 32 * group + 32; ++column)
          sum += static_cast<int32_t>(code(expected, token, column));
        const int32_t got = groups[static_cast<size_t>(int64_t{token} * 8 * tiles_ + group)];
        if (got != sum) {
          FAIL(what << ": group sums: token " << token << " group " << group << " expected " << sum
                    << " got " << got);
        }
      }
    }
  }

  int m_;
  int k_;
  int bits_;
  unsigned forms_;
  int tiles_;
  DeviceArray<uint32_t> planes_;
  DeviceArray<uint8_t> codes_;
  DeviceArray<float> scales_;
  DeviceArray<int32_t> zeros_;
  DeviceArray<int32_t> sums_;
  DeviceArray<int32_t> groups_;
};

std::string named(const char* kernel, int m, int k, int bits) {
  return std::string(kernel) + " m=" + std::to_string(m) + " k=" + std::to_string(k) +
         " bits=" + std::to_string(bits);
}

struct Shape {
  int m;
  int k;
};

std::vector<Shape> shapes() {
  std::vector<Shape> result;
  for (const int k : {1, 3, 64, 384, 1000, 4096, 11008}) {
    for (const int m : {1, 2, 7, 33})
      result.push_back({m, k});
  }
  for (const int k : {3, 64, 1000, 4096})
    result.push_back({300, k});
  result.push_back({1, 28672});  // two tiles a warp, eight blocks
  result.push_back({20, 28672});
  result.push_back({1, 140000});  // longer than registers hold
  return result;
}

void check_quantize(const HostRows& x, int bits, unsigned forms, int shift) {
  const std::string what = named("quantize", x.m, x.columns, bits);
  const Stream stream;
  DeviceRows device(x, shift);
  TokenBuffers tokens(x.m, x.columns, bits, forms);
  require_ok(quantize(device.values(), tokens.view(), stream));
  stream.wait();
  tokens.check(quant::quantize_tokens(x.view(), bits), what);
}

TEST_CASE("tokens: quantize gives the codes of quantize_tokens in every form and shape") {
  uint64_t seed = 100;
  for (const Shape& shape : shapes())
    check_quantize(random_rows(shape.m, shape.k, shape.k, ++seed), 8, kAll, 0);
}

TEST_CASE("tokens: quantize works at every width") {
  uint64_t seed = 200;
  for (int bits = 1; bits <= 8; ++bits) {
    check_quantize(random_rows(9, 384, 384, ++seed), bits, kAll, 0);
    check_quantize(random_rows(2, 1000, 1000, ++seed), bits, kAll, 0);
    check_quantize(random_rows(1, 4096, 4096, ++seed), bits, kAll, 0);
  }
}

TEST_CASE("tokens: quantize takes any stride and alignment, and makes the forms it is asked for") {
  check_quantize(random_rows(7, 1000, 1024, 300), 8, kAll, 0);
  check_quantize(random_rows(7, 1000, 1003, 301), 8, kAll, 0);
  check_quantize(random_rows(7, 1000, 1000, 302), 8, kAll, 1);
  check_quantize(random_rows(3, 4096, 4100, 303), 8, kAll, 2);
  for (unsigned forms = 0; forms < kAll; ++forms) {
    check_quantize(random_rows(2, 4096, 4096, 310 + forms), 8, forms, 0);
    check_quantize(random_rows(2, 383, 383, 330 + forms), 4, forms, 0);
  }
}

// Rows of one special kind each.
HostRows special_rows(int columns) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  HostRows x = random_rows(12, columns, columns, 400);
  std::fill_n(x.row(0), columns, 0.0f);
  std::fill_n(x.row(1), columns, -0.0f);
  std::fill_n(x.row(2), columns, 2.75f);
  std::fill_n(x.row(3), columns, -2.75f);
  std::fill_n(x.row(4), columns, kNan);
  x.at(5, columns / 2) = kNan;
  x.at(6, columns / 3) = kInfinity;
  x.at(7, columns - 1) = -kInfinity;
  x.at(8, 0) = 1e30f;
  x.at(9, columns / 2) = -3.3e38f;
  x.at(9, columns / 3) = 3.3e38f;
  std::fill_n(x.row(10), columns, 1e-42f);
  x.at(11, columns / 2) = 3.3e38f;
  return x;
}

TEST_CASE("tokens: quantize of zeros, constants, NaN, infinity and outliers") {
  for (const int columns : {63, 384, 4096, 11008}) {
    for (const int bits : {1, 2, 5, 8}) {
      const HostRows x = special_rows(columns);
      check_quantize(x, bits, kAll, 0);
      for (int r = 0; r < x.m; ++r) {  // each alone, by the plan of few tokens
        HostRows one(1, columns, columns);
        std::copy_n(x.row(r), columns, one.row(0));
        check_quantize(one, bits, kAll, 0);
      }
    }
  }
}

// Norm with quantization: the codes are those of the values it writes, which rms_norm writes too.
void check_norm_quantize(int m, int k, int64_t stride, int bits, uint64_t seed) {
  const std::string what = named("rms_norm_quantize", m, k, bits);
  const Stream stream;
  DeviceRows x(random_rows(m, k, stride, seed));
  const DeviceArray<float> weight = on_device(random_rows(1, k, k, seed + 1).values);
  DeviceRows alone(HostRows(m, k, stride));
  DeviceRows written(HostRows(m, k, stride));
  TokenBuffers tokens(m, k, bits);
  TokenBuffers unseen(m, k, bits);
  require_ok(rms_norm(x.values(), weight.data(), 1e-6f, alone.rows(), stream));
  require_ok(
      rms_norm_quantize(x.values(), weight.data(), 1e-6f, written.rows(), tokens.view(), stream));
  require_ok(rms_norm_quantize(x.values(), weight.data(), 1e-6f, Rows{}, unseen.view(), stream));
  stream.wait();
  const HostRows y = written.download();
  CHECK_MESSAGE(same_bits(y, alone.download()), what << ": not the values of rms_norm");
  tokens.check(quant::quantize_tokens(y.view(), bits), what);
  CHECK_MESSAGE(tokens.bytes() == unseen.bytes(), what << ": differs without y");
}

TEST_CASE("tokens: rms_norm_quantize gives the codes of the normalised values") {
  uint64_t seed = 500;
  for (const Shape& shape : shapes())
    check_norm_quantize(shape.m, shape.k, shape.k, 8, seed += 2);
  for (int bits = 1; bits <= 7; ++bits)
    check_norm_quantize(3, 4096, 4096, bits, seed += 2);
  check_norm_quantize(3, 4096, 4104, 8, seed += 2);
  check_norm_quantize(3, 1000, 1001, 8, seed += 2);
}

TEST_CASE("tokens: rms_norm_quantize of NaN, infinity and zeros is defined") {
  for (const int columns : {384, 4096}) {
    for (const float eps : {1e-6f, 0.0f}) {
      const HostRows x = special_rows(columns);
      const Stream stream;
      DeviceRows device(x);
      const DeviceArray<float> weight = on_device(random_rows(1, columns, columns, 601).values);
      DeviceRows written(HostRows(x.m, columns, columns));
      TokenBuffers tokens(x.m, columns, 8);
      require_ok(rms_norm_quantize(device.values(), weight.data(), eps, written.rows(),
                                   tokens.view(), stream));
      stream.wait();
      tokens.check(quant::quantize_tokens(written.download().view(), 8),
                   named("rms_norm_quantize of special rows", x.m, columns, 8));
    }
  }
}

TEST_CASE("tokens: silu_mul_quantize gives the codes of the products of silu_mul") {
  uint64_t seed = 700;
  for (const Shape& shape : shapes()) {
    const std::string what = named("silu_mul_quantize", shape.m, shape.k, 8);
    const Stream stream;
    DeviceRows gate(random_rows(shape.m, shape.k, shape.k, ++seed));
    DeviceRows up(random_rows(shape.m, shape.k, shape.k, ++seed));
    DeviceRows product(HostRows(shape.m, shape.k, shape.k));
    TokenBuffers tokens(shape.m, shape.k, 8);
    require_ok(silu_mul(gate.values(), up.values(), product.rows(), stream));
    require_ok(silu_mul_quantize(gate.values(), up.values(), tokens.view(), stream));
    stream.wait();
    tokens.check(quant::quantize_tokens(product.download().view(), 8), what);
  }
}

TEST_CASE("tokens: every plan gives the same bits, and so does every run") {
  constexpr int kColumns = 11008;
  const HostRows x = random_rows(4, kColumns, kColumns, 800);
  const Stream stream;
  DeviceRows device(x);
  const DeviceArray<float> weight = on_device(random_rows(1, kColumns, kColumns, 801).values);
  std::vector<uint8_t> first;
  for (const int blocks : {1, 2, 4, 8, 8}) {
    if (blocks > 1 && !launches_overlap()) continue;  // no clusters
    for (const int held : {1, 2}) {
      const int warps = divide_up(tiles_of(kColumns, kTileDepth), blocks * held);
      if (warps > kMaxRowWarps) continue;
      TokenBuffers tokens(x.m, kColumns, 8);
      require_ok(launch_rms_norm_quantize({device.values().data, kColumns}, weight.data(), 1e-5f,
                                          {nullptr, 0}, tokens.view(), true,
                                          TokenPlan{held, blocks, warps}, stream));
      stream.wait();
      const std::vector<uint8_t> bytes = tokens.bytes();
      if (first.empty()) first = bytes;
      CHECK_MESSAGE(bytes == first, "plan of " << blocks << " blocks, " << held << " held");
    }
  }
}

TEST_CASE("tokens: split_halves gives the halves of views.h in their order") {
  for (const Shape& shape :
       {Shape{1, 1}, {2, 3}, {1, 64}, {7, 384}, {33, 1000}, {1, 4096}, {2, 11008}, {20, 4096}}) {
    const HostRows x = random_rows(shape.m, shape.k, shape.k, 900);
    const Stream stream;
    DeviceRows device(x);
    const int64_t padded = int64_t{tiles_of(shape.k, kTileDepth)} * kTileDepth;
    DeviceArray<uint16_t> halves = poisoned<uint16_t>(2 * padded * shape.m);
    DeviceArray<float> scales = poisoned<float>(shape.m);
    require_ok(
        split_halves(device.values(), {shape.m, shape.k, halves.data(), scales.data()}, stream));
    stream.wait();
    const std::vector<uint16_t> got = require_value(halves.download());
    const std::vector<float> scale = require_value(scales.download());
    for (int r = 0; r < shape.m; ++r) {
      int exponent = 0;
      REQUIRE(std::frexp(scale[static_cast<size_t>(r)], &exponent) == 0.5f);
      for (int64_t c = 0; c < padded; ++c) {
        const float v =
            c < shape.k ? x.at(r, static_cast<int>(c)) / scale[static_cast<size_t>(r)] : 0.0f;
        const uint16_t high = float_to_f16(v);
        const uint16_t low = float_to_f16(v - f16_to_float(high));
        constexpr int kPlaces[4] = {0, 2, 1, 3};
        const int64_t place = c - c % 4 + kPlaces[c % 4];
        const size_t index = static_cast<size_t>(2 * padded * r + place);
        if (got[index] != high || got[index + static_cast<size_t>(padded)] != low) {
          FAIL(named("split_halves", shape.m, shape.k, 16)
               << ": token " << r << " column " << c << " value " << v << " expected " << high
               << " " << low << " got " << got[index] << " "
               << got[index + static_cast<size_t>(padded)]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace abq::runtime::cuda
