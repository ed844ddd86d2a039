// cuda.bits and cuda.bytes on a device against the reference; weight tiles against the host's.
#include <doctest/doctest.h>

#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/linear/bytes_launchers.h"
#include "runtime/cuda/linear/bytes_tokens.h"
#include "runtime/cuda/linear/launchers.h"
#include "tests/runtime/cuda/linear_rig.h"

namespace abq::runtime::cuda {
namespace {

using quant::WeightSpec;

struct Shape {
  WeightSpec spec;
  int bits;
  int64_t m;
  int64_t n;
  int64_t k;
};

// Every kernel of this part that can run the case.
void check_kernels(LinearCase& linear, bool with_residual = false) {
  int runs = 0;
  for (const LinearKernel kernel : {LinearKernel::kBits, LinearKernel::kBytes}) {
    if (!can_run(kernel, linear.problem()).ok()) continue;
    ++runs;
    linear.check(
        std::string(linear_kernel_name(kernel)),
        [&](const LinearOutput& output) {
          return run_linear(kernel, linear.tiles(), linear.tokens(), output, nullptr);
        },
        with_residual);
  }
  CHECK(runs > 0);
}

void check_shape(const Shape& shape) {
  LinearCase linear(shape.spec, {shape.n}, false, shape.bits, shape.m, shape.k);
  check_kernels(linear);
}

std::vector<WeightSpec> all_specs(int group_size) {
  std::vector<WeightSpec> specs;
  for (int p = 1; p <= 8; ++p)
    specs.push_back({p, false, group_size, p % 2 == 0});
  specs.push_back({1, true, group_size, false});
  specs.push_back({2, true, group_size, true});
  return specs;
}

void check_launcher(LinearCase& linear, const char* kernel, decltype(launch_bits)* launcher,
                    const BlockShape& shape) {
  linear.check(
      fmt::format("{} of {} warps, depth {}, {} clusters of {}, share {}", kernel, shape.warps,
                  shape.depth, shape.clusters, shape.cluster, shape.share),
      [&](const LinearOutput& output) {
        const cudaError_t error = launcher(linear.tiles(), linear.tokens(), output, shape, nullptr);
        return error == cudaSuccess ? Status() : device_error("{}", cudaGetErrorString(error));
      });
}

// Whether launch_bytes has the share for these weights, and this device the cluster.
bool runs_shape(const WeightTiles& w, const BlockShape& shape) {
  const bool base5 = w.encoding == TileEncoding::kBase5;
  const bool two_planes = !base5 && w.planes <= 2;
  const bool share =
      base5 ? shape.share == 1 : shape.share == 2 || shape.share == (two_planes ? 4 : 3);
  const bool depth = shape.depth == 1 || base5 || (two_planes && shape.share == 2);
  const int most =
      shape.share == 4 || (base5 && shape.depth == 2) ? kMaxTokenWarps / 2 : kMaxTokenWarps;
  return share && depth && tokens_warps(w, shape) <= most &&
         (shape.cluster == 1 || launches_overlap());
}

std::vector<uint32_t> tile_words(const WeightTiles& w) {
  std::vector<uint32_t> words(static_cast<size_t>(w.tile_bytes / 4));
  REQUIRE(cudaMemcpy(words.data(), w.tiles, words.size() * 4, cudaMemcpyDeviceToHost) ==
          cudaSuccess);
  return words;
}
template <class T>
std::vector<T> row_params(const WeightTiles& w, const T* from) {
  std::vector<T> values(static_cast<size_t>(tiles_of(w.n, kTileRows) * kTileRows * w.groups));
  REQUIRE(cudaMemcpy(values.data(), from, values.size() * sizeof(T), cudaMemcpyDeviceToHost) ==
          cudaSuccess);
  return values;
}

// Tiles, scales, zero points and sums made on the device against those of the host.
void check_tiles(const WeightSpec& spec, std::vector<int64_t> rows, bool gated, int64_t k) {
  std::vector<quant::QuantizedWeights> weights;
  for (size_t i = 0; i < rows.size(); ++i)
    weights.push_back(random_weights(spec, rows[i], k, 31 + i));
  std::vector<std::unique_ptr<StoredCase>> stored;
  std::vector<const quant::QuantizedWeights*> parts;
  std::vector<const StoredWeights*> views;
  for (const quant::QuantizedWeights& part : weights) {
    stored.push_back(std::make_unique<StoredCase>(part));
    parts.push_back(&part);
    views.push_back(&stored.back()->view);
  }
  const DeviceTiles device(views, gated);
  const HostTiles host(parts, gated);
  const WeightTiles& w = device.view();
  CAPTURE(spec.bits);
  CAPTURE(spec.balanced);
  CAPTURE(k);
  CHECK(w.planes == host.planes);
  CHECK(w.encoding == host.encoding);
  CHECK((tile_words(w) == host.words));
  const auto groups = static_cast<size_t>(w.groups);
  const size_t all_rows = host.codes.size() / static_cast<size_t>(kTileDepth * host.k_tiles);
  std::vector<float> scales(all_rows * groups);
  std::vector<int32_t> zeros(scales.size());
  std::vector<int32_t> sums(scales.size());
  int64_t before = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    for (int64_t row = 0; row < parts[i]->n; ++row)
      for (size_t g = 0; g < groups; ++g) {
        const auto to = static_cast<size_t>(tile_row(gated, static_cast<int>(i), before, row));
        const size_t at = (to / 16 * groups + g) * 16 + to % 16;
        const size_t from = static_cast<size_t>(row) * groups + g;
        scales[at] = parts[i]->scales[from] / static_cast<float>(spec.zero_denominator());
        zeros[at] = parts[i]->zeros[from];
        const auto length = static_cast<size_t>(k) / groups;
        for (size_t j = 0; j < length; ++j)
          sums[at] += parts[i]->codes[from * length + j];
      }
    before += parts[i]->n;
  }
  CHECK((row_params(w, w.scales) == scales));
  CHECK((row_params(w, w.zeros) == zeros));
  CHECK((row_params(w, w.sums) == sums));
}

std::string fill_error(const StoredWeights& weights) {
  const StoredWeights* const part = &weights;
  const TilesPlan plan = required(plan_tiles({&part, 1}, false));
  auto memory = required(DeviceArray<std::byte>::create(plan.bytes));
  return fill_tiles(plan, {&part, 1}, memory.data(), nullptr).status().to_string();
}

}  // namespace

TEST_CASE("tiles made on the device are those of the host") {
  for (const WeightSpec& spec : all_specs(0)) {
    check_tiles(spec, {40}, false, 300);
    check_tiles(spec, {17}, false, 1000);
  }
  for (const int64_t k : {64, 256, 512, 700, 1280, 4096})
    check_tiles({2, true, 0, false}, {33}, false, k);
  for (const int group : {32, 64, 128})
    for (const WeightSpec& spec : all_specs(group))
      check_tiles(spec, {24}, false, 384);
  check_tiles({4, false, 0, false}, {40, 8, 8}, false, 512);
  check_tiles({2, true, 128, false}, {5, 70, 3}, false, 384);
  check_tiles({3, false, 0, false}, {44, 44}, true, 512);
  check_tiles({2, true, 0, false}, {20, 20}, true, 800);
}

TEST_CASE("tiles of more rows than one chunk are those of the host") {
  check_tiles({2, false, 0, false}, {1100, 1000}, false, 33000);
}

TEST_CASE("faults of stored weights are refused with their row") {
  const quant::QuantizedWeights w = random_weights({2, true, 0, false}, 20, 100, 5);
  StoredCase good(w);
  CHECK(fill_error(good.view) == "ok");
  StoredCase word(w);
  word.packed[static_cast<size_t>(7 * word.view.layout.row_bytes())] = std::byte{0x7f};
  CHECK(fill_error(word.view) == "corrupt: row 7: a word stands for no codes");
  StoredCase padding(w);
  padding.packed[static_cast<size_t>(4 * padding.view.layout.row_bytes() - 1)] = std::byte{1};
  CHECK(fill_error(padding.view) == "corrupt: row 3: padding is not zero");
  for (const float scale : {0.0f, -1.0f, std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
    StoredCase bad(w);
    bad.scales[19] = scale;
    CHECK(fill_error(bad.view) == "corrupt: row 19: a scale is not a positive finite number");
  }
  StoredCase zero(w);
  zero.zeros[2] = 5;
  CHECK(fill_error(zero.view) == "corrupt: row 2: a zero point is out of range");
  StoredCase planes(random_weights({3, false, 0, false}, 6, 100, 5));
  planes.packed[static_cast<size_t>(2 * planes.view.layout.row_bytes() + 12)] |= std::byte{0x80};
  CHECK(fill_error(planes.view) == "corrupt: row 2: padding is not zero");
  StoredCase ternary(random_weights({1, true, 0, false}, 6, 100, 5));
  ternary.packed[static_cast<size_t>(5 * ternary.view.layout.row_bytes() + 3)] = std::byte{250};
  CHECK(fill_error(ternary.view) == "corrupt: row 5: a word stands for no codes");
}

TEST_CASE("random tiles have codes of every level and differ between rows") {
  const WeightSpec spec{2, true, 0, false};
  const StoredWeights shape{spec, quant::PackedLayout::for_weights(spec, 32, 768), {}, {}, {}};
  const DeviceTiles device({&shape}, false);
  const WeightTiles& w = device.view();
  const std::vector<int32_t> sums = row_params(w, w.sums);
  for (const int32_t sum : sums) {
    CHECK(sum > 768);
    CHECK(sum < 3 * 768);
  }
  CHECK(sums[0] != sums[1]);
  for (const float scale : row_params(w, w.scales))
    CHECK(scale > 0.0f);
}

TEST_CASE("every pair of widths equals the reference") {
  for (const WeightSpec& spec : all_specs(0))
    for (int q = 1; q <= 8; ++q) {
      check_shape({spec, q, 1, 40, 384});
      check_shape({spec, q, 3, 24, 1000});
    }
}

TEST_CASE("every pair of widths with groups equals the reference") {
  int turn = 0;
  for (const WeightSpec& spec : all_specs(0))
    for (int q = 1; q <= 8; ++q) {
      WeightSpec grouped = spec;
      grouped.group_size = 32 << (turn++ % 3);
      check_shape({grouped, q, 2, 24, 384});
    }
}

TEST_CASE("any number of tokens, ragged rows and depths equal the reference") {
  const WeightSpec two{2, false, 0, false};
  const WeightSpec four{4, false, 0, false};
  const WeightSpec balanced{2, true, 0, false};
  for (int64_t m = 1; m <= 33; ++m) {
    check_shape({two, 8, m, 40, 512});
    check_shape({balanced, 8, m, 40, 1000});
    check_shape({four, 4, m, 56, 384});
  }
  for (const int64_t m : {64, 65, 257})
    for (const WeightSpec& spec :
         {two, four, balanced, WeightSpec{1, false, 0, false}, WeightSpec{7, false, 0, false}})
      check_shape({spec, 8, m, 200, 1000});
  for (const int64_t k : {1, 31, 64, 257, 384, 1000, 4096, 11008})
    for (const WeightSpec& spec : {two, {3, false, 0, false}, four, balanced})
      for (const int64_t m : {1, 9})
        check_shape({spec, 8, m, 200, k});
  check_shape({two, 8, 1, 4096, 4096});
  check_shape({balanced, 8, 1, 4096, 4096});
  check_shape({four, 8, 1, 11008, 4096});
  check_shape({balanced, 8, 8, 11008, 4096});
  check_shape({two, 8, 8, 4096, 11008});
}

TEST_CASE("groups of every size with few and many tokens equal the reference") {
  for (const int group : {32, 64, 128})
    for (const WeightSpec& spec :
         {WeightSpec{4, false, group, false}, WeightSpec{2, true, group, true},
          WeightSpec{1, false, group, false}, WeightSpec{8, false, group, false}})
      for (const int64_t m : {1, 4, 7, 33, 65})
        check_shape({spec, 8, m, 72, 11008 / 4 - 64});
}

TEST_CASE("stacked parts, gates and residuals equal the reference") {
  for (const WeightSpec& spec : {WeightSpec{2, false, 0, false}, WeightSpec{2, true, 0, false},
                                 WeightSpec{4, false, 64, false}, WeightSpec{1, false, 0, false},
                                 WeightSpec{8, false, 0, true}})
    for (const int64_t m : {1, 3, 8, 12, 40}) {
      LinearCase stacked(spec, {40, 24, 10}, false, 8, m, 640);
      check_kernels(stacked, true);
      LinearCase gated(spec, {44, 44}, true, 8, m, 640);
      check_kernels(gated);
      check_kernels(gated, true);
      LinearCase narrow(spec, {72}, false, 5, m, 640);
      check_kernels(narrow, true);
    }
}

TEST_CASE("every block shape gives the same sums") {
  for (const WeightSpec& spec : {WeightSpec{2, false, 0, false}, WeightSpec{3, false, 0, false},
                                 WeightSpec{4, false, 0, false}, WeightSpec{6, false, 0, false},
                                 WeightSpec{2, true, 0, false}})
    for (const int64_t k : {200, 1536, 4096})
      for (const int64_t m : {1, 6}) {
        LinearCase linear(spec, {88}, false, 8, m, k);
        for (const int warps : {2, 4, 6, 8}) {
          check_launcher(linear, "cuda.bytes", launch_bytes, {warps, 2});
          if (linear.tiles().encoding != TileEncoding::kPlanes || m > 1) continue;
          for (const int depth : {2, 4})
            check_launcher(linear, "cuda.bits", launch_bits, {warps, depth});
        }
        for (int warps = 2; warps <= kMaxWarps; ++warps)
          for (const int depth : {1, 2})
            if (linear.tiles().encoding == TileEncoding::kBase5 && m == 1)
              check_launcher(linear, "cuda.bits", launch_bits, {warps, depth});
      }
}

TEST_CASE("base-5 matrices with units of one, two and three tiles at the end equal the reference") {
  for (const int64_t k : {200, 512, 1000, 2304, 11008, 50000})
    for (const int bits : {8, 3, 2})
      for (int64_t m = 1; m * bits <= 8; ++m)
        check_shape({{2, true, 0, bits == 3}, bits, m, 43, k});
}

TEST_CASE("one to eight tokens and deep weights equal the reference at every width") {
  std::vector<WeightSpec> specs = {{2, true, 0, true}};
  for (int p = 1; p <= kMaxTokenPlanes; ++p)
    specs.push_back({p, false, 0, p == 3});
  for (const WeightSpec& spec : specs) {
    for (int64_t m = 1; m <= kTokenColumns; ++m)
      for (const int q : {1, 4, 8})
        check_shape({spec, q, m, 40 + m, 2400 + 200 * m});
    check_shape({spec, 8, 8, 1100, 11008});
    check_shape({spec, 8, 5, 4096, 4096});
    check_shape({spec, 8, 8, 11008, 2816});
    for (const bool gated : {false, true}) {
      LinearCase parts(spec, {88, 88}, gated, 8, 7, 4096);
      check_kernels(parts, true);
    }
  }
}

TEST_CASE("every cluster and every number of them gives the same sums of tokens") {
  for (const WeightSpec& spec : {WeightSpec{1, false, 0, false}, WeightSpec{2, false, 0, false},
                                 WeightSpec{3, false, 0, false}, WeightSpec{4, false, 0, false},
                                 WeightSpec{2, true, 0, false}})
    for (const int64_t k : {200, 2304, 4096})
      for (const int64_t m : {3, 8}) {
        LinearCase linear(spec, {210}, false, m == 3 ? 4 : 8, m, k);
        for (const int share : {1, 2, 3, 4})
          for (const int depth : {1, 2})
            for (const int cluster : {1, 2, 4, 8})
              for (const int clusters : {1, 3, 14}) {
                const BlockShape shape{
                    .depth = depth, .clusters = clusters, .cluster = cluster, .share = share};
                if (!runs_shape(linear.tiles(), shape)) continue;
                check_launcher(linear, "cuda.bytes", launch_bytes, shape);
              }
      }
}

TEST_CASE("the largest sums of eight tokens are exact") {
  const int64_t k = 49152;
  quant::QuantizedWeights w = random_weights({4, false, 0, false}, 20, k, 1);
  quant::QuantizedTokens x = random_tokens(8, 2, k, 2);
  std::fill(w.codes.begin(), w.codes.end(), uint8_t{15});
  std::fill(x.codes.begin(), x.codes.end(), uint8_t{255});
  const StoredCase stored(w);
  const DeviceTiles tiles({&stored.view}, false);
  DeviceTokens tokens{HostTokens(x)};
  auto raw = uploaded(std::vector<int64_t>(40, -1));
  LinearOutput output;
  output.raw = raw.data();
  ABQ_REQUIRE_OK(run_linear(LinearKernel::kBytes, tiles.view(), tokens.view(), output, nullptr));
  CHECK((required(raw.download()) == std::vector<int64_t>(40, 15 * 255 * k)));
}

TEST_CASE("the last sum that fits int32, and more, are exact") {
  for (const int64_t k : {33025, 33026, 65537})
    check_shape({{8, false, 0, false}, 8, 1, 24, k});
}

TEST_CASE("sums beyond int32 are exact") {
  // Largest codes everywhere: 255 * 255 * 140,000 > 2^33, in two segments of a warp with 2 warps.
  const int64_t k = 140000;
  quant::QuantizedWeights w = random_weights({8, false, 0, false}, 20, k, 1);
  std::fill(w.codes.begin(), w.codes.end(), uint8_t{255});
  const StoredCase stored(w);
  const DeviceTiles tiles({&stored.view}, false);
  for (const int warps : {2, 8})
    for (const bool bits : {false, true}) {
      quant::QuantizedTokens x = random_tokens(8, bits ? 1 : 2, k, 2);
      std::fill(x.codes.begin(), x.codes.end(), uint8_t{255});
      DeviceTokens tokens{HostTokens(x)};
      const std::vector<int64_t> expected(static_cast<size_t>(20 * x.m), 255 * 255 * k);
      auto raw = uploaded(std::vector<int64_t>(expected.size(), -1));
      LinearOutput output;
      output.raw = raw.data();
      const auto launcher = bits ? launch_bits : launch_bytes;
      REQUIRE(launcher(tiles.view(), tokens.view(), output, {warps, 1}, nullptr) == cudaSuccess);
      CAPTURE(warps);
      CAPTURE(bits);
      CHECK((required(raw.download()) == expected));
    }
}

TEST_CASE("problems that a kernel cannot run are refused with the limit") {
  LinearProblem base5{3, TileEncoding::kBase5, 0, 8, 1, 64, 64};
  CHECK(choose_kernel(base5) == LinearKernel::kBits);
  base5.m = 2;
  CHECK(can_run(LinearKernel::kBits, base5).to_string() ==
        "unsupported: cuda.bits: 2 tokens of 8 bits and weights in base 5; it takes up to 8 planes "
        "of tokens");
  base5.m = 1;
  base5.group_size = 32;
  CHECK(can_run(LinearKernel::kBits, base5).to_string() ==
        "unsupported: cuda.bits: groups of weights in base 5; it takes them per channel");
  LinearProblem many{2, TileEncoding::kPlanes, 0, 8, 8, 64, 64};
  CHECK(can_run(LinearKernel::kBits, many).to_string() ==
        "unsupported: cuda.bits: 8 tokens of 8 bits; it takes up to 8 planes of tokens");
  CHECK(choose_kernel(many) == LinearKernel::kBytes);
  many.activation_bits = 1;
  CHECK(choose_kernel(many) == LinearKernel::kBits);
  many.activation_bits = 8;
  many.m = 9;
  CHECK(can_run(LinearKernel::kBytes, many).ok());
  many.group_size = 96;
  CHECK(can_run(LinearKernel::kBytes, many).to_string() ==
        "unsupported: cuda.bytes: group size 96; it runs 32, 64, 128 and per-channel");
  many.group_size = 0;
  many.activation_bits = 16;
  CHECK(can_run(LinearKernel::kBytes, many).to_string() ==
        "unsupported: cuda.bytes: 16 activation bits; it takes 1 to 8");
  CHECK(choose_kernel(many) == LinearKernel::kHalf);
  CHECK(choose_kernel(base5) == LinearKernel::kBytes);
}

}  // namespace abq::runtime::cuda
