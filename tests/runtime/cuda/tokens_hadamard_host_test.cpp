// The phases of the Hadamard transform and how rows are dealt to blocks, run on the CPU.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "compute/device.h"
#include "runtime/cuda/tokens/hadamard_block.cuh"
#include "support/random.h"

namespace abq::runtime::cuda {
namespace {

constexpr float kUnwritten = 1e30f;

bool same_bits(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

struct Matrix {
  std::vector<float> signs;
  HadamardMatrix matrix;

  explicit Matrix(int64_t size) {
    const compute::HadamardFactors& factors = compute::hadamard_factors(size);
    signs = hadamard_signs(factors);
    matrix.order = static_cast<int>(factors.order);
    matrix.length = static_cast<int>(factors.length);
    matrix.scale = factors.scale();
    matrix.signs = signs.empty() ? nullptr : signs.data();
  }
};

// Runs a phase thread by thread, in one order and in the other in turns.
class EmulatedBlock {
 public:
  EmulatedBlock(const HadamardRows& rows, const HadamardMatrix& h, const HadamardPlan& p, int slice)
      : matrix(h), plan(p), rows_(rows), slice_(slice), memory_(p.shared_bytes / 16) {
    std::fill(memory_.begin(), memory_.end(),
              make_float4(kUnwritten, kUnwritten, kUnwritten, kUnwritten));
    all_threads([](const HadamardBlock& b) { b.stage_signs(); });
  }

  void choose(int unit) { unit_ = unit; }
  void load() const {
    all_threads([](const HadamardBlock& b) { b.load(); });
  }
  template <int kRounds>
  void rounds(int log) const {
    all_threads([log](const HadamardBlock& b) { b.rounds<kRounds>(log); });
  }
  void store() const {
    all_threads([](const HadamardBlock& b) { b.store(); });
  }
  template <int kColumns>
  void mix() const {
    all_threads([](const HadamardBlock& b) { b.mix<kColumns>(); });
  }

  HadamardMatrix matrix;
  HadamardPlan plan;

 private:
  template <class Phase>
  void all_threads(const Phase& phase) const {
    backwards_ = !backwards_;
    for (int i = 0; i < plan.threads; ++i) {
      const int thread = backwards_ ? plan.threads - 1 - i : i;
      HadamardBlock block(rows_, matrix, plan, slice_, thread,
                          reinterpret_cast<unsigned char*>(memory_.data()));
      block.choose(unit_);
      phase(block);
    }
  }

  HadamardRows rows_;
  int slice_;
  int unit_ = 0;
  mutable bool backwards_ = false;
  mutable std::vector<float4> memory_;
};

struct Case {
  int64_t size;
  int m, columns;
};

void check_case(const Case& c, int stride_gap, bool in_place) {
  CAPTURE(c.size);
  CAPTURE(c.m);
  CAPTURE(c.columns);
  CAPTURE(in_place);
  const Matrix h(c.size);
  const int64_t stride = c.columns + stride_gap;
  Random random(static_cast<uint64_t>(c.size));
  // In whole vectors, so that bases are aligned.
  std::vector<float4> x4(static_cast<size_t>((c.m * stride + 3) / 4)), y4 = x4;
  float* const x = reinterpret_cast<float*>(x4.data());
  float* const y = in_place ? x : reinterpret_cast<float*>(y4.data());
  std::vector<float> expected(static_cast<size_t>(c.m) * static_cast<size_t>(c.columns));
  for (int64_t i = 0; i < c.m * stride; ++i)
    x[i] = static_cast<float>(random.normal());
  for (int r = 0; r < c.m; ++r)
    std::copy_n(x + r * stride, c.columns, expected.begin() + int64_t{r} * c.columns);
  compute::cpu_device().hadamard({expected.data(), c.m, c.columns}, c.size, false);

  const HadamardPlan plan = plan_hadamard(h.matrix, c.m, c.columns, in_place);
  if (in_place) REQUIRE(plan.slices == 1);
  const bool vector = c.columns % 4 == 0 && stride % 4 == 0;
  const HadamardRows rows{x, stride, y, stride, c.m, c.columns, vector};
  for (int slice = 0; slice < plan.slices; ++slice) {
    EmulatedBlock block(rows, h.matrix, plan, slice);
    for (int unit = 0; unit < c.m * plan.units; ++unit) {
      block.choose(unit);
      transform_unit(block, [] {});
    }
  }
  int64_t wrong = 0;
  for (int r = 0; r < c.m; ++r) {
    for (int i = 0; i < c.columns; ++i) {
      const auto at = static_cast<size_t>(r) * static_cast<size_t>(c.columns);
      wrong += same_bits(y[r * stride + i], expected[at + static_cast<size_t>(i)]) ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("hadamard: blocks of threads compute the transform with the bits of the CPU") {
  for (const Case& c :
       {Case{2, 3, 6},       Case{2, 2, 4098},    Case{4, 5, 12},        Case{8, 2, 4104},
        Case{16, 3, 48},     Case{32, 5, 96},     Case{64, 300, 64},     Case{128, 5, 640},
        Case{256, 1, 4096},  Case{1024, 5, 1024}, Case{4096, 2, 8192},   Case{12, 7, 3000},
        Case{24, 5, 48},     Case{48, 2, 96},     Case{96, 300, 96},     Case{384, 1, 384},
        Case{384, 300, 384}, Case{28, 3, 56},     Case{1376, 200, 1376}, Case{5120, 1, 5120}})
    check_case(c, 0, false);
}

TEST_CASE("hadamard: widths of down projections for one token and for many") {
  for (const int64_t size : {11008, 13824, 14336})
    check_case({size, 1, static_cast<int>(size)}, 0, false);
  check_case({1376, 2, 11008}, 0, false);
  check_case({11008, 130, 11008}, 0, false);
}

TEST_CASE("hadamard: rows lie apart, unaligned and in place") {
  for (const Case& c : {Case{64, 5, 192}, Case{384, 3, 384}, Case{24, 3, 72}, Case{688, 2, 1376}}) {
    for (const int gap : {0, 4, 3})
      for (const bool in_place : {false, true})
        check_case(c, gap, in_place);
  }
  check_case({11008, 2, 11008}, 4, true);  // signs that are not staged
}

TEST_CASE("hadamard: plans cover all rows of the matrix and stay within a multiprocessor") {
  for (const int64_t size :
       {2, 12, 64, 96, 384, 1020, 4080, 11008, 13824, 14336, 18944, 28672, 32768, 49152}) {
    CAPTURE(size);
    const Matrix h(size);
    for (const int m : {1, 2, 5, 16, 100, 300, 4096}) {
      CAPTURE(m);
      for (const bool in_place : {false, true}) {
        const HadamardPlan plan = plan_hadamard(h.matrix, m, static_cast<int>(3 * size), in_place);
        CHECK(plan.unit % size == 0);
        CHECK(int64_t{plan.units} * plan.unit >= 3 * size);
        CHECK((int64_t{plan.units} - 1) * plan.unit < 3 * size);
        CHECK(plan.threads % 32 == 0);
        CHECK(plan.threads >= 32);
        CHECK(plan.threads <= 512);
        CHECK(plan.blocks >= 1);
        CHECK(plan.blocks <= int64_t{m} * plan.units);
        CHECK(plan.shared_bytes <= 227 * 1024);
        CHECK(plan.value_bytes % 16 == 0);
        if (h.matrix.order > 1) {
          CHECK(plan.slices * plan.quads * 4 >= h.matrix.order);
          CHECK((plan.slices - 1) * plan.quads * 4 < h.matrix.order);
        }
        if (in_place) CHECK(plan.slices == 1);
      }
    }
  }
}

}  // namespace abq::runtime::cuda
