// What the tests of the token kernels share: random matrices, buffers on the device, poison.
#pragma once

#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "quant/affine.h"
#include "runtime/cuda/device_array.h"
#include "runtime/cuda/token_kernels.h"
#include "support/float16.h"
#include "support/random.h"

namespace abq::runtime::cuda {

inline void require_ok(const Status& status) {
  REQUIRE_MESSAGE(status.ok(), status.to_string());
}
inline void require_ok(cudaError_t error) {
  REQUIRE_MESSAGE(error == cudaSuccess, cudaGetErrorString(error));
}
template <class T>
T require_value(Result<T> result) {
  REQUIRE_MESSAGE(result.ok(), result.status().to_string());
  return std::move(result).value();
}

// Tokens that memory for the planes of m has room for.
inline int64_t plane_rows(int m) {
  return m <= kTokenColumns ? m : int64_t{tiles_of(m, kPlaneBlockTokens)} * kPlaneBlockTokens;
}

constexpr float kPoison = -7.25e11f;
constexpr uint8_t kPoisonByte = 0xcd;

class Stream {
 public:
  Stream() { require_ok(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { (void)cudaStreamDestroy(stream_); }
  operator cudaStream_t() const { return stream_; }
  void wait() const { require_ok(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

// Rows on the host, `stride` apart; what lies between is poison.
struct HostRows {
  int m = 0;
  int columns = 0;
  int64_t stride = 0;
  std::vector<float> values;

  HostRows(int rows, int cols, int64_t row_stride)
      : m(rows),
        columns(cols),
        stride(row_stride),
        values(static_cast<size_t>(rows * row_stride), kPoison) {}
  float* row(int r) { return values.data() + r * stride; }
  const float* row(int r) const { return values.data() + r * stride; }
  float& at(int r, int c) { return row(r)[c]; }
  float at(int r, int c) const { return row(r)[c]; }
  MatrixView<const float> view() const { return {values.data(), m, columns, stride}; }
};

// Normal values, each row of its own size and with a few outliers.
inline HostRows random_rows(int m, int columns, int64_t stride, uint64_t seed) {
  Random random(seed);
  HostRows rows(m, columns, stride);
  for (int r = 0; r < m; ++r) {
    const double size = std::exp2(random.uniform() * 8 - 4);
    for (int c = 0; c < columns; ++c) {
      const double outlier = random.below(97) == 0 ? 12.0 : 1.0;
      rows.at(r, c) = static_cast<float>(random.normal() * size * outlier);
    }
  }
  return rows;
}

template <class T>
DeviceArray<T> on_device(const std::vector<T>& values) {
  auto array = require_value(DeviceArray<T>::create(static_cast<int64_t>(values.size())));
  require_ok(array.upload(values));
  return array;
}
template <class T>
DeviceArray<T> poisoned(int64_t size) {
  auto array = require_value(DeviceArray<T>::create(size));
  require_ok(cudaMemset(array.data(), kPoisonByte, static_cast<size_t>(array.bytes())));
  require_ok(cudaDeviceSynchronize());  // streams of tests do not wait for this one
  return array;
}

// Rows on the device. `shift` floats of padding in front make the first row unaligned.
class DeviceRows {
 public:
  explicit DeviceRows(const HostRows& rows, int shift = 0)
      : m_(rows.m), columns_(rows.columns), stride_(rows.stride), shift_(shift) {
    std::vector<float> values(rows.values.size() + static_cast<size_t>(shift), kPoison);
    std::copy(rows.values.begin(), rows.values.end(), values.begin() + shift);
    memory_ = on_device(values);
  }
  Rows rows() { return {memory_.data() + shift_, stride_, m_, columns_}; }
  ConstRows values() { return rows(); }
  HostRows download() const {
    const std::vector<float> values = require_value(memory_.download());
    HostRows rows(m_, columns_, stride_);
    std::copy(values.begin() + shift_, values.end(), rows.values.begin());
    return rows;
  }

 private:
  int m_;
  int columns_;
  int64_t stride_;
  int shift_;
  DeviceArray<float> memory_;
};

// Bits that differ anywhere, padding included.
inline bool same_bits(const HostRows& a, const HostRows& b) {
  return a.values.size() == b.values.size() &&
         std::memcmp(a.values.data(), b.values.data(), a.values.size() * sizeof(float)) == 0;
}

// What lies between the rows must still be poison.
inline void check_padding(const HostRows& rows, const std::string& what) {
  for (int r = 0; r < rows.m; ++r) {
    for (int64_t c = rows.columns; c < rows.stride; ++c) {
      if (rows.row(r)[c] != kPoison) FAIL_CHECK(what << ": wrote beyond row " << r << " at " << c);
    }
  }
}

struct Worst {
  double excess = 0;  // error over tolerance
  int row = 0;
  int column = 0;
};

// got = expected(row, column) within tolerance(row, column), both float64.
template <class Expected, class Tolerance>
void check_close(const HostRows& got, const std::string& what, const Expected& expected,
                 const Tolerance& tolerance) {
  Worst worst;
  for (int r = 0; r < got.m; ++r) {
    for (int c = 0; c < got.columns; ++c) {
      const double error = std::fabs(static_cast<double>(got.at(r, c)) - expected(r, c));
      const double excess = error / tolerance(r, c);
      if (!(excess <= worst.excess)) worst = {excess, r, c};
      if (std::isnan(excess)) break;
    }
    if (std::isnan(worst.excess)) break;
  }
  CHECK_MESSAGE(worst.excess <= 1.0, what << ": row " << worst.row << " column " << worst.column
                                          << " expected " << expected(worst.row, worst.column)
                                          << " got " << got.at(worst.row, worst.column)
                                          << ", error over tolerance " << worst.excess);
  check_padding(got, what);
}

}  // namespace abq::runtime::cuda
