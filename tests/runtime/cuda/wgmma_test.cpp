// The warpgroup kernels on the device, against plain loops over codes: raw sums by equality,
// outputs within the error of float32.
#include <doctest/doctest.h>

#include <cstring>
#include <string>

#include "runtime/cuda/device_array.h"
#include "runtime/cuda/wgmma/launchers.h"
#include "runtime/cuda/wgmma/wgmma_linear.h"
#include "wgmma_cases.h"

namespace abq::runtime::cuda::wgmma_test {
namespace {

constexpr int kGuard = 3;  // columns beyond the output that nothing may touch
constexpr uint32_t kPoison = 0x7fc0dead;

bool supported() {
  static const Status status =
      check_bytes_wgmma({.planes = 2, .activation_bits = 8, .m = 64, .n = 64, .k = 256});
  if (!status.ok()) {
    CHECK(status.code() == StatusCode::kUnsupported);
    MESSAGE("skipped: " << status.to_string());
  }
  return status.ok();
}

template <class T>
DeviceArray<T> upload(const std::vector<T>& values) {
  Result<DeviceArray<T>> array = DeviceArray<T>::create(static_cast<int64_t>(values.size()));
  REQUIRE(array.ok());
  REQUIRE(array.value().upload(values).ok());
  return std::move(array.value());
}

enum class Kernel { kBytes, kBits };

// A case with its operands on the device.
class DeviceCase {
 public:
  explicit DeviceCase(const Case& chosen)
      : c_(chosen),
        w_(make_weights(c_, 11)),
        x_(make_tokens(c_, 12)),
        products_(code_products(x_, w_)),
        host_weights_(pack_weights(c_, w_)),
        host_tokens_(pack_tokens(x_)),
        tiles_(upload(host_weights_.tiles)),
        scales_(upload(host_weights_.scales)),
        zeros_(upload(host_weights_.zeros)),
        sums_(upload(host_weights_.sums)),
        planes_(upload(host_tokens_.planes)),
        codes_(upload(host_tokens_.codes)),
        token_scales_(upload(host_tokens_.scales)),
        token_zeros_(upload(host_tokens_.zeros)),
        token_sums_(upload(host_tokens_.sums)),
        group_sums_(upload(host_tokens_.group_sums)) {
    weights_ = host_weights_.view;
    weights_.tiles = tiles_.data();
    weights_.scales = scales_.data();
    weights_.zeros = zeros_.data();
    weights_.sums = sums_.data();
    tokens_ = host_tokens_.view;
    tokens_.planes = planes_.data();
    tokens_.codes = codes_.data();
    tokens_.scales = token_scales_.data();
    tokens_.zeros = token_zeros_.data();
    tokens_.sums = token_sums_.data();
    tokens_.group_sums = group_sums_.data();
  }

  const Case& chosen() const { return c_; }

  // `choice` null: what run_bytes_wgmma() chooses.
  void check_raw(Kernel kernel, const wgmma::LaunchChoice* choice = nullptr) {
    const int64_t count = static_cast<int64_t>(products_.size());
    DeviceArray<int64_t> raw = upload(std::vector<int64_t>(static_cast<size_t>(count), -77));
    LinearOutput output;
    output.raw = raw.data();
    launch(kernel, output, choice);
    const std::vector<int64_t> got = raw.download().value();
    const int64_t groups = weights_.groups;
    int wrong = 0;
    for (int64_t i = 0; i < count; ++i) {
      const size_t at = static_cast<size_t>(i);
      if (got[at] != products_[at] && wrong++ == 0) {
        FAIL_CHECK(name(kernel, choice)
                   << ": token " << i / groups / c_.n << " row " << i / groups % c_.n << " group "
                   << i % groups << ": expected " << products_[at] << ", got " << got[at]);
      }
    }
    if (wrong > 0) MESSAGE(name(kernel, choice) << ": " << wrong << " of " << count << " wrong");
    CHECK(wrong == 0);
  }

  void check_output(Kernel kernel, bool with_residual,
                    const wgmma::LaunchChoice* choice = nullptr) {
    const int columns = c_.gated ? c_.n / 2 : c_.n;
    const int stride = columns + kGuard;
    std::vector<float> residual;
    for (int i = 0; with_residual && i < c_.m * columns; ++i)
      residual.push_back(static_cast<float>(i % 173) * 0.37f - 20.0f);
    const Expected expected = expected_output(c_, x_, w_, products_, residual);
    const std::vector<float> first = run_output(kernel, residual, columns, stride, choice);
    int wrong = 0;
    for (int m = 0; m < c_.m; ++m) {
      for (int column = 0; column < stride; ++column) {
        const size_t at = static_cast<size_t>(m * stride + column);
        if (column >= columns) {
          uint32_t bits;
          std::memcpy(&bits, &first[at], 4);
          if (bits != kPoison) ++wrong;
          continue;
        }
        const size_t from = static_cast<size_t>(m * columns + column);
        const double error = std::abs(static_cast<double>(first[at]) - expected.y[from]);
        if (!(error <= expected.tolerance[from]) && wrong++ == 0) {
          FAIL_CHECK(name(kernel, choice)
                     << (with_residual ? " with residual" : "") << ": token " << m << " column "
                     << column << ": expected " << expected.y[from] << " within "
                     << expected.tolerance[from] << ", got " << first[at]);
        }
      }
    }
    if (wrong > 0) MESSAGE(name(kernel, choice) << ": " << wrong << " outputs wrong");
    CHECK(wrong == 0);
    const std::vector<float> second = run_output(kernel, residual, columns, stride, choice);
    CHECK(std::memcmp(first.data(), second.data(), first.size() * sizeof(float)) == 0);
  }

 private:
  std::string name(Kernel kernel, const wgmma::LaunchChoice* choice) const {
    std::string text = kernel == Kernel::kBytes ? "bytes " : "bits ";
    text += name_of(c_);
    if (choice != nullptr)
      text += fmt::format(" (tiles of {} tokens, clusters of {})", choice->tokens, choice->cluster);
    return text;
  }

  void launch(Kernel kernel, const LinearOutput& output, const wgmma::LaunchChoice* choice) {
    if (choice != nullptr) {
      const cudaError_t error =
          c_.group_size > 0
              ? wgmma::launch_bytes_groups(weights_, tokens_, output, *choice, nullptr)
              : wgmma::launch_bytes_channels(weights_, tokens_, output, *choice, nullptr);
      REQUIRE_MESSAGE(error == cudaSuccess, name(kernel, choice) << cudaGetErrorString(error));
    } else {
      const Status status = kernel == Kernel::kBytes
                                ? run_bytes_wgmma(weights_, tokens_, output, nullptr)
                                : run_bits_wgmma(weights_, tokens_, output, nullptr);
      REQUIRE_MESSAGE(status.ok(), status.to_string());
    }
    const cudaError_t error = cudaDeviceSynchronize();
    REQUIRE_MESSAGE(error == cudaSuccess, name(kernel, choice) << cudaGetErrorString(error));
  }

  // y with poison wherever the kernel writes nothing; the residual is y itself.
  std::vector<float> run_output(Kernel kernel, const std::vector<float>& residual, int columns,
                                int stride, const wgmma::LaunchChoice* choice) {
    std::vector<float> start(static_cast<size_t>(c_.m * stride));
    for (float& value : start)
      std::memcpy(&value, &kPoison, 4);
    for (size_t i = 0; i < residual.size(); ++i) {
      const size_t column = static_cast<size_t>(columns);
      start[i / column * static_cast<size_t>(stride) + i % column] = residual[i];
    }
    DeviceArray<float> y = upload(start);
    LinearOutput output;
    output.y = y.data();
    output.stride = stride;
    if (!residual.empty()) {
      output.residual = y.data();
      output.residual_stride = stride;
    }
    launch(kernel, output, choice);
    return y.download().value();
  }

  Case c_;
  quant::QuantizedWeights w_;
  quant::QuantizedTokens x_;
  std::vector<int64_t> products_;
  HostWeights host_weights_;
  HostTokens host_tokens_;
  DeviceArray<uint32_t> tiles_;
  DeviceArray<float> scales_;
  DeviceArray<int32_t> zeros_;
  DeviceArray<int32_t> sums_;
  DeviceArray<uint32_t> planes_;
  DeviceArray<uint8_t> codes_;
  DeviceArray<float> token_scales_;
  DeviceArray<int32_t> token_zeros_;
  DeviceArray<int32_t> token_sums_;
  DeviceArray<int32_t> group_sums_;
  WeightTiles weights_;
  TokenTiles tokens_;
};

TEST_CASE("bytes_wgmma: every pair of widths gives the reference's sums") {
  if (!supported()) return;
  for (int planes = 1; planes <= 8; ++planes) {
    for (const int bits : {1, 2, 4, 8}) {
      DeviceCase({.planes = planes, .bits = bits, .m = 65, .n = 40, .k = 384})
          .check_raw(Kernel::kBytes);
    }
  }
  for (const int bits : {1, 2, 4, 8}) {
    for (const int k : {200, 512, 768, 1000}) {
      DeviceCase({.planes = 3, .bits = bits, .balanced = true, .m = 65, .n = 40, .k = k})
          .check_raw(Kernel::kBytes);
    }
  }
}

TEST_CASE("bytes_wgmma: every tile of tokens and cluster gives the reference's sums") {
  if (!supported()) return;
  for (const int tokens : {64, 128, 256}) {
    for (const int cluster : {1, 2}) {
      const wgmma::LaunchChoice choice{tokens, cluster};
      for (const auto& [planes, balanced] :
           {std::pair{2, false}, std::pair{4, false}, std::pair{8, false}, std::pair{3, true}}) {
        for (const int n : {40, 200}) {
          DeviceCase(
              {.planes = planes, .bits = 8, .balanced = balanced, .m = 257, .n = n, .k = 1000})
              .check_raw(Kernel::kBytes, &choice);
        }
      }
    }
  }
}

TEST_CASE("bytes_wgmma: ragged shapes give the reference's sums") {
  if (!supported()) return;
  for (const int m : {9, 65, 128, 257, 600}) {
    for (const int n : {40, 200, 1032}) {
      for (const int k : {64, 384, 1000}) {
        DeviceCase({.planes = 2, .bits = 8, .m = m, .n = n, .k = k}).check_raw(Kernel::kBytes);
        if (m != 600 || n != 1032) {
          DeviceCase({.planes = 8, .bits = 8, .m = m, .n = n, .k = k}).check_raw(Kernel::kBytes);
        }
      }
    }
  }
  for (const int planes : {2, 4, 8}) {
    DeviceCase({.planes = planes, .bits = 8, .m = 257, .n = 200, .k = 4096})
        .check_raw(Kernel::kBytes);
  }
  DeviceCase({.planes = 3, .bits = 8, .balanced = true, .m = 257, .n = 200, .k = 4096})
      .check_raw(Kernel::kBytes);
  DeviceCase({.planes = 2, .bits = 8, .m = 600, .n = 1032, .k = 4096}).check_raw(Kernel::kBytes);
}

TEST_CASE("bytes_wgmma: more block tiles than processors give the reference's sums") {
  if (!supported()) return;
  for (const int cluster : {1, 2}) {
    const wgmma::LaunchChoice choice{64, cluster};
    DeviceCase({.planes = 2, .bits = 8, .m = 2500, .n = 2000, .k = 300})
        .check_raw(Kernel::kBytes, &choice);
  }
}

TEST_CASE("bytes_wgmma: sums of groups are the reference's") {
  if (!supported()) return;
  for (const int group : {32, 64, 128}) {
    for (const auto& [planes, balanced] :
         {std::pair{1, false}, std::pair{2, false}, std::pair{3, false}, std::pair{8, false},
          std::pair{3, true}}) {
      for (const int k : {384, 1152}) {
        DeviceCase({.planes = planes,
                    .bits = 8,
                    .balanced = balanced,
                    .group_size = group,
                    .m = 130,
                    .n = 200,
                    .k = k})
            .check_raw(Kernel::kBytes);
      }
    }
  }
}

TEST_CASE("bytes_wgmma: outputs with scales, zero points, residual and gates") {
  if (!supported()) return;
  for (const auto& [planes, balanced] :
       {std::pair{1, false}, std::pair{2, false}, std::pair{4, false}, std::pair{8, false},
        std::pair{3, true}}) {
    for (const int group : {0, 32, 64, 128}) {
      for (const bool gated : {false, true}) {
        for (const int m : {65, 257}) {
          DeviceCase device({.planes = planes,
                             .bits = 8,
                             .balanced = balanced,
                             .group_size = group,
                             .gated = gated,
                             .m = m,
                             .n = 200,
                             .k = 640});
          device.check_output(Kernel::kBytes, false);
          device.check_output(Kernel::kBytes, true);
        }
      }
    }
  }
  for (const wgmma::LaunchChoice choice :
       {wgmma::LaunchChoice{256, 2}, wgmma::LaunchChoice{128, 2}, wgmma::LaunchChoice{256, 1}}) {
    for (const bool gated : {false, true}) {
      DeviceCase({.planes = 2, .bits = 4, .gated = gated, .m = 257, .n = 264, .k = 384})
          .check_output(Kernel::kBytes, true, &choice);
    }
    DeviceCase({.planes = 4, .bits = 4, .group_size = 64, .m = 257, .n = 264, .k = 384})
        .check_output(Kernel::kBytes, true, &choice);
  }
}

TEST_CASE("bits_wgmma: every pair and shape gives the reference's sums") {
  if (!supported()) return;
  for (const auto& [planes, bits] : {std::pair{1, 1}, std::pair{1, 2}, std::pair{2, 1},
                                     std::pair{2, 2}, std::pair{1, 3}, std::pair{3, 1}}) {
    for (const int m : {9, 65, 128, 257}) {
      for (const int n : {40, 200}) {
        for (const int k : {64, 384, 1000}) {
          DeviceCase({.planes = planes, .bits = bits, .m = m, .n = n, .k = k})
              .check_raw(Kernel::kBits);
        }
      }
    }
    DeviceCase({.planes = planes, .bits = bits, .m = 257, .n = 1032, .k = 4096})
        .check_raw(Kernel::kBits);
    for (const bool gated : {false, true}) {
      DeviceCase device(
          {.planes = planes, .bits = bits, .gated = gated, .m = 257, .n = 200, .k = 640});
      device.check_output(Kernel::kBits, false);
      device.check_output(Kernel::kBits, true);
    }
  }
  DeviceCase({.planes = 2, .bits = 2, .m = 2500, .n = 2000, .k = 300}).check_raw(Kernel::kBits);
}

TEST_CASE("wgmma: problems outside the limits are refused") {
  const LinearProblem good{.planes = 8, .activation_bits = 8, .m = 64, .n = 64, .k = 33025};
  LinearProblem problem = good;
  if (supported()) CHECK(check_bytes_wgmma(problem).ok());
  problem.k = 33026;
  CHECK(check_bytes_wgmma(problem).message().find("33025") != std::string::npos);
  problem = good;
  problem.m = 8;
  CHECK(check_bytes_wgmma(problem).code() == StatusCode::kUnsupported);
  problem = good;
  problem.group_size = 96;
  CHECK(check_bytes_wgmma(problem).code() == StatusCode::kUnsupported);
  problem = good;
  CHECK(check_bits_wgmma(problem).message().find("registers") != std::string::npos);
  problem = {.planes = 2, .group_size = 64, .activation_bits = 2, .m = 64, .n = 64, .k = 256};
  CHECK(check_bits_wgmma(problem).message().find("group size 64") != std::string::npos);
}

}  // namespace
}  // namespace abq::runtime::cuda::wgmma_test
