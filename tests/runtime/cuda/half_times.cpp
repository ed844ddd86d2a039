#include "half_times.h"

#include <cstdio>
#include <vector>

#include "runtime/cuda/bench/graph_timer.h"
#include "runtime/cuda/device_array.h"
#include "runtime/cuda/half/half_linear.h"
#include "runtime/cuda/linear/base5_tiles.h"

namespace abq::runtime::cuda {
namespace {

constexpr int64_t kBytePattern = 0x2d;

struct Format {
  const char* name;
  TileEncoding encoding;
  int planes;
};

// Any bits are codes (base-5 words included), and tokens of small float16 numbers do.
Status print_times(const Format& format, int64_t n, int64_t k, int m) {
  const int k_tiles = tiles_of(k, kTileDepth);
  const int64_t loads =
      format.encoding == TileEncoding::kBase5 ? base5_row_loads(k_tiles) : k_tiles * format.planes;
  const int64_t bytes = tiles_of(n, kTileRows) * loads * kLanes * 16;
  const int64_t padded = m > 8 ? (m + kTokenPadding - 1) / kTokenPadding * kTokenPadding : 8;
  ABQ_ASSIGN_OR_RETURN(const int copies, cold_copies(bytes));
  ABQ_ASSIGN_OR_RETURN(DeviceArray<uint8_t> tiles, DeviceArray<uint8_t>::create(copies * bytes));
  ABQ_ASSIGN_OR_RETURN(DeviceArray<uint16_t> halves,
                       DeviceArray<uint16_t>::create(padded * 2 * k_tiles * kTileDepth));
  ABQ_ASSIGN_OR_RETURN(DeviceArray<float> scales, DeviceArray<float>::create(n + m + 16));
  ABQ_ASSIGN_OR_RETURN(DeviceArray<int32_t> zeros, DeviceArray<int32_t>::create(n + 16));
  ABQ_ASSIGN_OR_RETURN(DeviceArray<float> y, DeviceArray<float>::create(m * n));
  ABQ_RETURN_IF_CUDA_ERROR(cudaMemset(tiles.data(), kBytePattern, copies * bytes), "fill");
  ABQ_RETURN_IF_CUDA_ERROR(cudaMemset(halves.data(), kBytePattern, halves.bytes()), "fill");
  ABQ_RETURN_IF_CUDA_ERROR(cudaMemset(scales.data(), 0, scales.bytes()), "fill");
  ABQ_RETURN_IF_CUDA_ERROR(cudaMemset(zeros.data(), 0, zeros.bytes()), "fill");
  WeightTiles weights;
  weights.encoding = format.encoding;
  weights.n = static_cast<int>(n);
  weights.k = static_cast<int>(k);
  weights.planes = format.planes;
  weights.scales = scales.data();
  weights.zeros = zeros.data();
  const HalfTokens tokens{m, static_cast<int>(k), halves.data(), scales.data() + n};
  LinearOutput output;
  output.y = y.data();
  output.stride = n;
  const auto time = [&](int rotate, int launches) {
    return time_graph(launches, [&](int i, cudaStream_t stream) {
      weights.tiles = reinterpret_cast<const uint32_t*>(tiles.data() + i % rotate * bytes);
      return run_half_linear(weights, tokens, output, stream);
    });
  };
  const int launches = m > 32 ? 20 : kGraphLaunches;
  ABQ_ASSIGN_OR_RETURN(const double cold, time(copies, launches));
  ABQ_ASSIGN_OR_RETURN(const double warm, time(1, launches));
  const double tflops = 2e-6 * static_cast<double>(n * k) * m / cold;
  if (m > 32) {
    std::printf("%-6s M=%-4d %5ldx%-5ld cold %6.2f us, %.0f TFLOPS\n", format.name, m,
                static_cast<long>(n), static_cast<long>(k), cold, tflops);
    return {};
  }
  if (m > 1) {
    std::printf("%-6s M=%-4d %5ldx%-5ld cold %6.2f us, warm %6.2f\n", format.name, m,
                static_cast<long>(n), static_cast<long>(k), cold, warm);
    return {};
  }
  ABQ_ASSIGN_OR_RETURN(const double floor, time_read(bytes, false));
  ABQ_ASSIGN_OR_RETURN(const double overlapped, time_read(bytes, true));
  std::printf(
      "%-6s M=%-4d %5ldx%-5ld cold %6.2f us, warm %6.2f, read %5.2f (overlapped %.2f), ratio "
      "%.2f\n",
      format.name, m, static_cast<long>(n), static_cast<long>(k), cold, warm, floor, overlapped,
      cold / floor);
  return {};
}

}  // namespace

Status print_half_times() {
  const Format w4{"w4a16", TileEncoding::kPlanes, 4};
  const Format w2{"w2a16", TileEncoding::kPlanes, 2};
  const Format w2b{"w2ba16", TileEncoding::kBase5, 3};
  for (const Format& format : {w4, w2}) {
    ABQ_RETURN_IF_ERROR(print_times(format, 4096, 4096, 1));
    ABQ_RETURN_IF_ERROR(print_times(format, 11008, 4096, 1));
    ABQ_RETURN_IF_ERROR(print_times(format, 4096, 11008, 1));
    ABQ_RETURN_IF_ERROR(print_times(format, 11008, 4096, 8));
  }
  ABQ_RETURN_IF_ERROR(print_times(w4, 4096, 4096, 8));
  ABQ_RETURN_IF_ERROR(print_times(w4, 4096, 4096, 32));
  ABQ_RETURN_IF_ERROR(print_times(w4, 4096, 4096, 2048));
  return print_times(w2b, 11008, 4096, 1);
}

}  // namespace abq::runtime::cuda
