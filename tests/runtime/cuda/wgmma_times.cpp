// Times of the warpgroup kernels beside cuBLASLt's int8 product in the same run. Asked for with
// ABQ_KERNEL_TIMES=1.
#include <cublasLt.h>
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string_view>

#include "runtime/cuda/device_array.h"
#include "runtime/cuda/linear/base5_tiles.h"
#include "runtime/cuda/wgmma/launchers.h"
#include "runtime/cuda/wgmma/wgmma_linear.h"
#include "support/random.h"

namespace abq::runtime::cuda::wgmma_test {
namespace {

constexpr int kLaunches = 20;
constexpr int kRepeats = 5;

// Microseconds of a launch among kLaunches behind each other, median of kRepeats; 0 if one fails.
double time_launches(const std::function<bool()>& launch) {
  cudaEvent_t start;
  cudaEvent_t end;
  REQUIRE(cudaEventCreate(&start) == cudaSuccess);
  REQUIRE(cudaEventCreate(&end) == cudaSuccess);
  std::vector<float> times;
  bool ok = launch();
  for (int i = 0; ok && i < kRepeats; ++i) {
    (void)cudaEventRecord(start);
    for (int j = 0; ok && j < kLaunches; ++j)
      ok = launch();
    (void)cudaEventRecord(end);
    float ms = 0;
    ok = ok && cudaEventSynchronize(end) == cudaSuccess &&
         cudaEventElapsedTime(&ms, start, end) == cudaSuccess;
    times.push_back(ms * 1000 / kLaunches);
  }
  (void)cudaEventDestroy(start);
  (void)cudaEventDestroy(end);
  if (!ok) {
    std::printf("  failed: %s\n", cudaGetErrorString(cudaGetLastError()));
    return 0;
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void print_time(const char* name, double us, int m, int n, int k, double baseline) {
  if (us <= 0) return;
  std::printf("  %-34s %8.1f us  %7.1f TOPS", name, us, 2.0 * m * n * k / us * 1e-6);
  if (baseline > 0) std::printf("  %5.2fx of cuBLASLt int8", baseline / us);
  std::printf("\n");
}

template <class T>
DeviceArray<T> random_array(int64_t count, const std::function<T(Random&)>& draw) {
  Random random(static_cast<uint64_t>(count));
  std::vector<T> values(static_cast<size_t>(count));
  for (T& value : values)
    value = draw(random);
  auto array = DeviceArray<T>::create(count);
  REQUIRE(array.ok());
  REQUIRE(array.value().upload(values).ok());
  return std::move(array.value());
}

// ---- cuBLASLt ----

class CublasLt {
 public:
  bool open() {
    for (const char* name : {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13",
                             "libcublasLt.so.12", "/usr/local/cuda/lib64/libcublasLt.so.12"}) {
      library_ = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
      if (library_ != nullptr) break;
    }
    if (library_ == nullptr) return false;
    const bool found =
        find("cublasLtCreate", create_) && find("cublasLtMatmulDescCreate", desc_create_) &&
        find("cublasLtMatmulDescSetAttribute", desc_set_) &&
        find("cublasLtMatrixLayoutCreate", layout_create_) &&
        find("cublasLtMatmulPreferenceCreate", preference_create_) &&
        find("cublasLtMatmulPreferenceSetAttribute", preference_set_) &&
        find("cublasLtMatmulAlgoGetHeuristic", heuristic_) && find("cublasLtMatmul", matmul_);
    return found && create_(&handle_) == CUBLAS_STATUS_SUCCESS;
  }

  // Best of the algorithms that it proposes for [m, k] x [n, k]^T in int8 with int32 sums.
  double time(int m, int n, int k) {
    const auto byte = [](Random& random) { return static_cast<int8_t>(random.next()); };
    const DeviceArray<int8_t> w = random_array<int8_t>(int64_t{n} * k, byte);
    const DeviceArray<int8_t> x = random_array<int8_t>(int64_t{m} * k, byte);
    DeviceArray<int32_t> y = DeviceArray<int32_t>::create(int64_t{m} * n).value();
    constexpr size_t kWorkspace = size_t{64} << 20;
    DeviceArray<uint8_t> workspace =
        DeviceArray<uint8_t>::create(static_cast<int64_t>(kWorkspace)).value();
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a;
    cublasLtMatrixLayout_t b;
    cublasLtMatrixLayout_t c;
    cublasLtMatmulPreference_t preference;
    desc_create_(&desc, CUBLAS_COMPUTE_32I, CUDA_R_32I);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    desc_set_(desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed));
    layout_create_(&a, CUDA_R_8I, static_cast<uint64_t>(k), static_cast<uint64_t>(n), k);
    layout_create_(&b, CUDA_R_8I, static_cast<uint64_t>(k), static_cast<uint64_t>(m), k);
    layout_create_(&c, CUDA_R_32I, static_cast<uint64_t>(n), static_cast<uint64_t>(m), n);
    preference_create_(&preference);
    preference_set_(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace,
                    sizeof(kWorkspace));
    constexpr int kAlgorithms = 8;
    cublasLtMatmulHeuristicResult_t found[kAlgorithms] = {};
    int count = 0;
    heuristic_(handle_, desc, a, b, c, c, preference, kAlgorithms, found, &count);
    double best = 0;
    for (int i = 0; i < count; ++i) {
      const int32_t one = 1;
      const int32_t zero = 0;
      const double us = time_launches([&] {
        return matmul_(handle_, desc, &one, w.data(), a, x.data(), b, &zero, y.data(), c, y.data(),
                       c, &found[i].algo, workspace.data(), kWorkspace,
                       nullptr) == CUBLAS_STATUS_SUCCESS;
      });
      if (us > 0 && (best == 0 || us < best)) best = us;
    }
    return best;
  }

 private:
  template <class Function>
  bool find(const char* name, Function& function) {
    function = reinterpret_cast<Function>(::dlsym(library_, name));
    return function != nullptr;
  }

  void* library_ = nullptr;
  cublasLtHandle_t handle_ = nullptr;
  decltype(&cublasLtCreate) create_ = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create_ = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set_ = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create_ = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create_ = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set_ = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic_ = nullptr;
  decltype(&cublasLtMatmul) matmul_ = nullptr;
};

// ---- ours ----

struct Timed {
  const char* name;
  int planes;
  int bits;
  bool base5 = false;
  int group_size = 0;
  bool as_bits = false;
};
constexpr Timed kTimed[] = {
    {"W2A8", 2, 8},
    {"W4A8", 4, 8},
    {"W8A8", 8, 8},
    {"W2bA8 (base 5)", 3, 8, true},
    {"W4A4", 4, 4},
    {"W4A8-g128", 4, 8, false, 128},
    {"W2A8-g32", 2, 8, false, 32},
    {"W2A2 bits", 2, 2, false, 0, true},
    {"W1A2 bits", 1, 2, false, 0, true},
};

void time_ours(const Timed& timed, int m, int n, int k, double baseline) {
  const int k_tiles = tiles_of(k, kTileDepth);
  const int n_tiles = tiles_of(n, kTileRows);
  const int64_t padded = int64_t{tiles_of(m, kTokenPadding)} * kTokenPadding;
  const auto word = [](Random& random) { return static_cast<uint32_t>(random.next()); };
  const int64_t row_loads = timed.base5 ? base5_row_loads(k_tiles) : k_tiles * timed.planes;
  const DeviceArray<uint32_t> tiles = random_array<uint32_t>(n_tiles * row_loads * 128, word);
  WeightTiles w;
  w.encoding = timed.base5 ? TileEncoding::kBase5 : TileEncoding::kPlanes;
  w.n = n;
  w.k = k;
  w.planes = timed.planes;
  w.group_size = timed.group_size;
  w.groups = timed.group_size > 0 ? k / timed.group_size : 1;
  const int64_t terms = int64_t{n_tiles} * w.groups * kTileRows;
  const DeviceArray<float> scales = random_array<float>(terms, [](Random&) { return 0.01f; });
  const DeviceArray<int32_t> zeros = random_array<int32_t>(terms, [](Random&) { return 1; });
  w.tiles = tiles.data();
  w.scales = scales.data();
  w.zeros = zeros.data();
  w.sums = zeros.data();
  w.tile_bytes = tiles.bytes();

  const int mask = (1 << timed.bits) - 1;
  DeviceArray<uint8_t> codes =
      random_array<uint8_t>(padded * k_tiles * kTileDepth, [mask](Random& random) {
        return static_cast<uint8_t>(random.next() & static_cast<uint64_t>(mask));
      });
  DeviceArray<uint32_t> planes = random_array<uint32_t>(padded * k_tiles * timed.bits * 8, word);
  DeviceArray<float> token_scales = random_array<float>(padded, [](Random&) { return 0.1f; });
  DeviceArray<int32_t> token_terms = random_array<int32_t>(padded, [](Random&) { return 3; });
  DeviceArray<int32_t> group_sums =
      random_array<int32_t>(padded * 8 * k_tiles, [](Random&) { return 3; });
  TokenTiles x;
  x.m = m;
  x.k = k;
  x.bits = timed.bits;
  x.planes = planes.data();
  x.codes = codes.data();
  x.scales = token_scales.data();
  x.zeros = token_terms.data();
  x.sums = token_terms.data();
  x.group_sums = group_sums.data();
  DeviceArray<float> y = DeviceArray<float>::create(int64_t{m} * n).value();
  LinearOutput output;
  output.y = y.data();
  output.stride = n;

  if (timed.as_bits) {
    print_time(timed.name, time_launches([&] {
                 return wgmma::launch_bits(w, x, output, nullptr) == cudaSuccess;
               }),
               m, n, k, baseline);
    return;
  }
  wgmma::LaunchChoice chosen;
  REQUIRE(wgmma::choose_launch(m, n, &chosen) == cudaSuccess);
  for (const int tokens : {64, 128, 256}) {
    for (const int cluster : {1, 2}) {
      if (timed.group_size > 0 && tokens != wgmma::kGroupTokens) continue;
      const wgmma::LaunchChoice choice{tokens, cluster};
      const bool is_chosen = timed.group_size > 0
                                 ? cluster == 1
                                 : tokens == chosen.tokens && cluster == chosen.cluster;
      const std::string name =
          fmt::format("{} {} tokens x {}{}", timed.name, tokens, cluster, is_chosen ? " *" : "");
      print_time(name.c_str(), time_launches([&] {
                   return (timed.group_size > 0
                               ? wgmma::launch_bytes_groups(w, x, output, choice, nullptr)
                               : wgmma::launch_bytes_channels(w, x, output, choice, nullptr)) ==
                          cudaSuccess;
                 }),
                 m, n, k, baseline);
    }
  }
}

TEST_CASE("wgmma: times") {
  const char* const wanted = std::getenv("ABQ_KERNEL_TIMES");
  if (wanted == nullptr || std::string_view(wanted) != "1") return;
  if (!check_bytes_wgmma({.planes = 2, .activation_bits = 8, .m = 64, .n = 64, .k = 256}).ok()) {
    return;
  }
  CublasLt cublas;
  const bool with_cublas = cublas.open();
  if (!with_cublas) std::printf("cuBLASLt was not found\n");
  for (const int m : {2048, 256}) {
    for (const auto& [n, k] :
         {std::pair{4096, 4096}, std::pair{11008, 4096}, std::pair{4096, 11008}}) {
      std::printf("M=%d N=%d K=%d (* = chosen)\n", m, n, k);
      const double baseline = with_cublas ? cublas.time(m, n, k) : 0;
      print_time("cuBLASLt int8", baseline, m, n, k, 0);
      for (const Timed& timed : kTimed)
        time_ours(timed, m, n, k, baseline);
      std::fflush(stdout);
    }
  }
}

}  // namespace
}  // namespace abq::runtime::cuda::wgmma_test
