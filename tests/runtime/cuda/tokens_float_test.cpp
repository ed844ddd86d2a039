// Norm, elementwise functions, embedding and argmax on the device, against float64 and definitions.
#include <algorithm>
#include <limits>

#include "tokens_test_support.h"

namespace abq::runtime::cuda {
namespace {

std::string sized(const char* kernel, int m, int columns) {
  return std::string(kernel) + " of " + std::to_string(m) + " x " + std::to_string(columns);
}

TEST_CASE("tokens: rms_norm is float64's within the rounding of its sum") {
  uint64_t seed = 10;
  for (const int columns : {1, 3, 64, 384, 1000, 4096, 11008, 28672, 140000}) {
    for (const int m : {1, 2, 7, 33}) {
      if (columns > 20000 && m > 2) continue;
      for (const int64_t stride : {int64_t{columns}, int64_t{columns} + 5}) {
        const HostRows x = random_rows(m, columns, stride, ++seed);
        const HostRows weight = random_rows(1, columns, columns, ++seed);
        constexpr float kEps = 1e-5f;
        const Stream stream;
        DeviceRows device(x);
        const DeviceArray<float> weights = on_device(weight.values);
        DeviceRows y(HostRows(m, columns, stride));
        require_ok(rms_norm(device.values(), weights.data(), kEps, y.rows(), stream));
        stream.wait();
        std::vector<double> inverse(static_cast<size_t>(m));
        for (int r = 0; r < m; ++r) {
          double squares = 0;
          for (int c = 0; c < columns; ++c)
            squares += static_cast<double>(x.at(r, c)) * x.at(r, c);
          inverse[static_cast<size_t>(r)] = 1.0 / std::sqrt(squares / columns + double{kEps});
        }
        const auto expected = [&](int r, int c) {
          return static_cast<double>(x.at(r, c)) * weight.at(0, c) *
                 inverse[static_cast<size_t>(r)];
        };
        // A lane's chain of additions, five of a warp, those over warps; half of it after the root;
        // and four more roundings.
        const double additions = 8.0 * std::max(2.0, columns / 8192.0) + 5 + columns / 8192.0 + 7;
        const double relative = (additions / 2 + 4) * 0x1p-24;
        check_close(y.download(), sized("rms_norm", m, columns), expected,
                    [&](int r, int c) { return relative * std::fabs(expected(r, c)) + 1e-37; });
      }
    }
  }
}

TEST_CASE("tokens: rms_norm of a token is the same alone and among others") {
  for (const int columns : {384, 4096, 11008}) {
    const HostRows x = random_rows(40, columns, columns, 50);
    const Stream stream;
    DeviceRows device(x);
    const DeviceArray<float> weights = on_device(random_rows(1, columns, columns, 51).values);
    DeviceRows all(HostRows(40, columns, columns));
    DeviceRows single(HostRows(40, columns, columns));
    require_ok(rms_norm(device.values(), weights.data(), 1e-6f, all.rows(), stream));
    for (int r = 0; r < 40; ++r) {
      const ConstRows from(device.values().data + r * columns, columns, 1, columns);
      const Rows to{single.rows().data + r * columns, columns, 1, columns};
      require_ok(rms_norm(from, weights.data(), 1e-6f, to, stream));
    }
    stream.wait();
    CHECK_MESSAGE(same_bits(all.download(), single.download()), sized("rms_norm", 40, columns));
  }
}

TEST_CASE("tokens: add and silu_mul are elementwise") {
  uint64_t seed = 100;
  for (const int columns : {1, 3, 64, 1000, 4096}) {
    for (const int m : {1, 7, 300}) {
      for (const int64_t stride : {int64_t{columns}, int64_t{columns} + 4, int64_t{columns} + 3}) {
        const HostRows a = random_rows(m, columns, stride, ++seed);
        const HostRows b = random_rows(m, columns, stride, ++seed);
        const Stream stream;
        DeviceRows first(a);
        DeviceRows second(b);
        DeviceRows sum(HostRows(m, columns, stride));
        DeviceRows product(HostRows(m, columns, stride));
        require_ok(add(first.values(), second.values(), sum.rows(), stream));
        require_ok(silu_mul(first.values(), second.values(), product.rows(), stream));
        stream.wait();
        const HostRows sums = sum.download();
        for (int r = 0; r < m; ++r) {
          for (int c = 0; c < columns; ++c) {
            if (sums.at(r, c) != a.at(r, c) + b.at(r, c))
              FAIL(sized("add", m, columns) << ": row " << r << " column " << c);
          }
        }
        check_padding(sums, "add");
        const auto silu = [&](int r, int c) {
          const double g = a.at(r, c);
          return g / (1.0 + std::exp(-g)) * b.at(r, c);
        };
        // e^-x within 2 units of the last place, and five roundings; float32 has no e^-x
        // above 88.7.
        check_close(product.download(), sized("silu_mul", m, columns), silu, [&](int r, int c) {
          const double g = a.at(r, c);
          const double lost = g < -80.0 ? std::fabs(g * b.at(r, c)) * 1e-34 : 0.0;
          return 9 * 0x1p-24 * std::fabs(silu(r, c)) + lost + 1e-37;
        });
      }
    }
  }
}

TEST_CASE("tokens: embed reads rows of any float type") {
  using compute::FloatType;
  constexpr int kWords = 97;
  for (const int columns : {1, 3, 64, 1002, 4096}) {
    for (const int m : {1, 5, 300}) {
      for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
        const HostRows table = random_rows(kWords, columns, columns, 150);
        std::vector<uint16_t> halves(table.values.size());
        for (size_t i = 0; i < halves.size(); ++i) {
          halves[i] = type == FloatType::kF16 ? float_to_f16(table.values[i])
                                              : float_to_bf16(table.values[i]);
        }
        Random random(151);
        std::vector<int32_t> ids(static_cast<size_t>(m));
        for (int32_t& id : ids)
          id = static_cast<int32_t>(random.below(kWords));
        const DeviceArray<float> floats = on_device(table.values);
        const DeviceArray<uint16_t> shorts = on_device(halves);
        const DeviceArray<int32_t> device_ids = on_device(ids);
        const void* const data =
            type == FloatType::kF32 ? static_cast<const void*>(floats.data()) : shorts.data();
        const Stream stream;
        DeviceRows y(HostRows(m, columns, columns + 2));
        require_ok(embed({type, data, kWords, columns}, device_ids.data(), y.rows(), stream));
        stream.wait();
        const HostRows got = y.download();
        for (int r = 0; r < m; ++r) {
          for (int c = 0; c < columns; ++c) {
            const size_t index = static_cast<size_t>(ids[static_cast<size_t>(r)] * columns + c);
            const float expected = type == FloatType::kF32   ? table.values[index]
                                   : type == FloatType::kF16 ? f16_to_float(halves[index])
                                                             : bf16_to_float(halves[index]);
            if (got.at(r, c) != expected) {
              FAIL(sized("embed", m, columns)
                   << ": type " << static_cast<int>(type) << " token " << r << " column " << c
                   << " expected " << expected << " got " << got.at(r, c));
            }
          }
        }
        check_padding(got, "embed");
      }
    }
  }
}

// The first of the largest values; -1 where one is NaN or infinite.
int32_t first_largest(const float* row, int columns) {
  if (std::any_of(row, row + columns, [](float value) { return !std::isfinite(value); })) return -1;
  return static_cast<int32_t>(std::max_element(row, row + columns) - row);
}

void check_argmax(const HostRows& x, int shift, const std::string& what) {
  const Stream stream;
  DeviceRows device(x, shift);
  DeviceArray<int32_t> best = poisoned<int32_t>(x.m);
  require_ok(argmax(device.values(), best.data(), stream));
  stream.wait();
  const std::vector<int32_t> got = require_value(best.download());
  for (int r = 0; r < x.m; ++r) {
    const int32_t expected = first_largest(x.row(r), x.columns);
    CHECK_MESSAGE(got[static_cast<size_t>(r)] == expected,
                  what << " row " << r << " of " << x.columns << ": expected " << expected
                       << " got " << got[static_cast<size_t>(r)]);
  }
}

TEST_CASE(
    "tokens: argmax finds the largest, the first of equals, and tells rows that are not finite") {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  uint64_t seed = 200;
  for (const int columns : {1, 3, 31, 97, 1000, 4097, 32000, 32003, 128256, 256000}) {
    for (const int m : {1, 5}) {
      HostRows x = random_rows(m, columns, columns + m, ++seed);
      check_argmax(x, 0, "random");
      check_argmax(x, 1, "unaligned");
      Random random(seed);
      for (int r = 0; r < m; ++r) {  // equals far apart
        for (int i = 0; i < 4; ++i)
          x.at(r, static_cast<int>(random.below(static_cast<uint64_t>(columns)))) = 1e9f;
      }
      check_argmax(x, 0, "equals");
      for (int r = 0; r < m; ++r) {
        const int place = static_cast<int>(random.below(static_cast<uint64_t>(columns)));
        if (r < 3) x.at(r, place) = r == 0 ? kNan : r == 1 ? kInfinity : -kInfinity;
      }
      check_argmax(x, 0, "NaN and infinity");
      for (int r = 0; r < m; ++r) {
        for (int c = 0; c < columns; ++c)
          x.at(r, c) = c % 3 == 0 ? -0.0f : 0.0f;
      }
      check_argmax(x, 0, "zeros of both signs");
    }
  }
}

TEST_CASE("tokens: overlapping launches give what waiting after each gives") {
  constexpr int kColumns = 4096;
  constexpr int kRounds = 40;
  const Stream stream;
  const HostRows start = random_rows(3, kColumns, kColumns, 300);
  DeviceRows a(start);
  DeviceRows b(random_rows(3, kColumns, kColumns, 301));
  const DeviceArray<float> weights = on_device(random_rows(1, kColumns, kColumns, 302).values);
  const auto run = [&](bool waits) {
    DeviceRows state(start);
    DeviceRows normed(HostRows(3, kColumns, kColumns));
    for (int round = 0; round < kRounds; ++round) {
      require_ok(rms_norm(state.values(), weights.data(), 1e-6f, normed.rows(), stream));
      if (waits) stream.wait();
      require_ok(silu_mul(normed.values(), b.values(), normed.rows(), stream));
      if (waits) stream.wait();
      require_ok(add(normed.values(), state.values(), state.rows(), stream));
      if (waits) stream.wait();
    }
    stream.wait();
    return state.download();
  };
  CHECK(same_bits(run(false), run(true)));
}

}  // namespace
}  // namespace abq::runtime::cuda
