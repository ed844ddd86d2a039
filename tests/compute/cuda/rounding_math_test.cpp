// The code that a warp runs for one row of rounding with error compensation, on the host: a thread
// for each lane, against the CPU's device.
#include "compute/cuda/rounding_math.cuh"

#include <doctest/doctest.h>

#include <barrier>
#include <cmath>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "compute/tensor_device.h"
#include "support/random.h"

namespace abq::compute::cuda {
namespace {

struct Meeting {
  std::barrier<> barrier{kLanes};
  double slots[kLanes];
};

class HostWarp {
 public:
  HostWarp(int lane, Meeting& meeting) : lane_(lane), meeting_(meeting) {}
  int lane() const { return lane_; }
  template <class T>
  T from(T value, int source) const {
    meeting_.slots[lane_] = static_cast<double>(value);
    meeting_.barrier.arrive_and_wait();
    const auto got = static_cast<T>(meeting_.slots[source]);
    meeting_.barrier.arrive_and_wait();
    return got;
  }
  template <class T>
  T exchange(T value, int mask) const {
    return from(value, lane_ ^ mask);
  }

 private:
  int lane_;
  Meeting& meeting_;
};

template <class F>
void as_warp(const F& f) {
  Meeting meeting;
  std::vector<std::thread> threads;
  for (int lane = 0; lane < kLanes; ++lane)
    threads.emplace_back([&, lane] { f(HostWarp(lane, meeting)); });
  for (std::thread& thread : threads)
    thread.join();
}

std::vector<float> normals(int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values)
    v = static_cast<float>(random.normal());
  return values;
}

// With inputs that are independent and of one size H is the identity, U = I / sqrt(1.01), no column
// changes another, and codes and grids are those of the CPU's search.
TEST_CASE("a warp's clip search and codes are those of the CPU") {
  constexpr int64_t k = 96;
  using Kind = WeightQuantizer::Kind;
  struct Row {
    WeightQuantizer quantizer;
    GridRule rule;
  };
  for (const Row& row :
       {Row{{Kind::kAsymmetric, 8, 7, 4, 0}, {GridRule::kAsymmetric, 7, 7, 4, false, true}},
        Row{{Kind::kAsymmetric, 5, 4, 2, 32}, {GridRule::kAsymmetric, 4, 4, 2, false, true}},
        Row{{Kind::kSymmetric, 16, 15, 8, 32}, {GridRule::kSymmetric, 15, 15, 8, false, true}},
        Row{{Kind::kBinary, 2, 1, 1, 0}, {GridRule::kBinary, 1, 1, 1, false, true}}}) {
    CAPTURE(row.quantizer.levels);
    CAPTURE(row.quantizer.group_size);
    const std::vector<float> w = normals(k, 3);
    const auto device = create_cpu_tensor_device();
    const auto rounder = device->create_rounder(k);
    std::vector<double> products(k * k);
    for (size_t i = 0; i < k; ++i)
      products[i * k + i] = 0.5;
    rounder->add_products(products, 1);
    const CompensatedWeights expected = *rounder->round({w.data(), 1, k}, row.quantizer, {});

    const size_t groups = expected.scales.size();
    std::vector<float> scales(groups), zeros(groups), low(groups), high(groups);
    std::vector<double> upper(k * k), added(k, 0.01), rest(w.begin(), w.end()), errors(128);
    std::vector<int> columns;
    for (size_t i = 0; i < k; ++i) {
      upper[i * k + i] = 1 / std::sqrt(1.01);
      columns.push_back(static_cast<int>(i));
    }
    std::vector<uint8_t> codes(k);
    double loss = 0;
    const GridTable table{scales.data(), zeros.data(), low.data(), high.data()};
    const auto block_of = [&] {
      return RoundBlock{k,
                        0,
                        static_cast<int>(k),
                        static_cast<int>(row.quantizer.group_size),
                        columns.data(),
                        upper.data(),
                        added.data(),
                        w.data(),
                        rest.data(),
                        errors.data(),
                        codes.data(),
                        &loss,
                        table};
    };
    as_warp([&](const HostWarp& warp) {
      if (row.quantizer.group_size == 0) {
        const ChosenGrid chosen =
            choose_grid(warp, row.rule, RowValues{w.data(), k, warp.lane()}, k, 1.0f, 1.0f);
        GridTable whole = table;
        if (warp.lane() == 0) store_grid(row.rule, chosen, whole, 0);
        static_cast<void>(warp.exchange(0.0, 1));  // all see it
      }
      RoundBlock block = block_of();
      round_block(warp, row.rule, block, 0);
    });
    CHECK(codes == expected.codes);
    CHECK(scales == expected.scales);
    CHECK(low == expected.clip_low);
    CHECK(high == expected.clip_high);
    for (size_t g = 0; g < groups; ++g)
      CHECK(zeros[g] == static_cast<float>(expected.zeros[g]));
    CHECK(loss == doctest::Approx(expected.loss).epsilon(1e-9));
  }
}

// A factor that couples all columns, in an order of its own: what the plain loop does.
TEST_CASE("a warp compensates the columns of a block as the plain loop does") {
  constexpr int64_t k = 200;
  constexpr int64_t begin = 100;
  constexpr int cols = 100;
  const std::vector<float> w = normals(k, 5);
  const std::vector<float> noise = normals(k * k, 6);
  std::vector<double> upper(k * k), added(k), rest(k);
  std::vector<int> columns;
  for (size_t i = 0; i < k; ++i) {
    columns.push_back(static_cast<int>((i * 7 + 3) % k));
    rest[i] = static_cast<double>(w[static_cast<size_t>(columns[i])]);
    added[i] = 0.001 * static_cast<double>(i);
    upper[i * k + i] = 1.0 + 0.1 * std::fabs(static_cast<double>(noise[i]));
    for (size_t j = i + 1; j < k; ++j)
      upper[i * k + j] = 0.1 * static_cast<double>(noise[i * k + j]);
  }
  const GridRule rule{GridRule::kAsymmetric, 7, 7, 4, true, false};
  float scale = 0.6f, zero = 3.0f, low = 1.0f, high = 1.0f;

  std::vector<double> plain = rest;
  std::vector<uint8_t> expected(k);
  std::vector<double> expected_errors(128);
  double expected_loss = 1.0;
  for (size_t j = begin; j < begin + cols; ++j) {
    const float code = std::fmin(
        std::fmax(std::nearbyint(static_cast<float>(plain[j]) / scale) + zero, 0.0f), 7.0f);
    const auto column = static_cast<size_t>(columns[j]);
    const auto value = static_cast<double>(scale * (code - zero));
    const double error = (plain[j] - value) / upper[j * k + j];
    expected[column] = static_cast<uint8_t>(code);
    expected_errors[j - begin] = error;
    const double moved = value - static_cast<double>(w[column]);
    expected_loss += error * error - added[j] * moved * moved;
    for (size_t i = j + 1; i < begin + cols; ++i)
      plain[i] -= error * upper[j * k + i];
  }

  std::vector<double> errors(128);
  std::vector<uint8_t> codes(k);
  double loss = 1.0;
  as_warp([&](const HostWarp& warp) {
    RoundBlock block{k,
                     begin,
                     cols,
                     0,
                     columns.data(),
                     upper.data(),
                     added.data(),
                     w.data(),
                     rest.data(),
                     errors.data(),
                     codes.data(),
                     &loss,
                     {&scale, &zero, &low, &high}};
    round_block(warp, rule, block, 0);
  });
  CHECK(codes == expected);
  CHECK(loss == doctest::Approx(expected_loss).epsilon(1e-12));
  for (size_t c = 0; c < cols; ++c)
    CHECK(errors[c] == doctest::Approx(expected_errors[c]).epsilon(1e-12));
}

}  // namespace
}  // namespace abq::compute::cuda
