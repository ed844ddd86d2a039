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
  std::vector<uint32_t> packed;
  HadamardMatrix matrix;

  explicit Matrix(int64_t size) {
    const compute::HadamardFactors& factors = compute::hadamard_factors(size);
    signs = hadamard_signs(factors);
    packed = packed_hadamard_signs(factors);
    matrix.order = static_cast<int>(factors.order);
    matrix.length = static_cast<int>(factors.length);
    matrix.scale = factors.scale();
    matrix.signs = signs.empty() ? nullptr : signs.data();
    matrix.packed = packed.empty() ? nullptr : packed.data();
  }
};

// Runs a phase thread by thread, in one order and in the other in turns.
class EmulatedBlock {
 public:
  EmulatedBlock(const HadamardMatrix& h, const HadamardBlockPlan& p, bool vector)
      : matrix(h), plan(p), vector_(vector), memory_(p.shared_bytes / 16) {
    std::fill(memory_.begin(), memory_.end(),
              make_float4(kUnwritten, kUnwritten, kUnwritten, kUnwritten));
  }

  unsigned char* memory() { return reinterpret_cast<unsigned char*>(memory_.data()); }
  HadamardBlock thread(int index) { return HadamardBlock(matrix, plan, index, vector_, memory()); }
  template <class Phase>
  void all_threads(const Phase& phase) {
    backwards_ = !backwards_;
    for (int i = 0; i < plan.threads; ++i)
      phase(thread(backwards_ ? plan.threads - 1 - i : i));
  }

  HadamardMatrix matrix;
  HadamardBlockPlan plan;

 private:
  bool vector_;
  bool backwards_ = false;
  std::vector<float4> memory_;
};

// What transform_rounds() and transform_unit() see as a block: a phase of it is that of all
// threads.
template <class Take>
struct Phases {
  EmulatedBlock& block;
  const Take& take;  // gives a thread's HadamardBlock its unit
  HadamardMatrix matrix = block.matrix;
  HadamardBlockPlan plan = block.plan;

  template <class Phase>
  void all(const Phase& phase) const {
    block.all_threads([&](HadamardBlock b) {
      take(b);
      phase(b);
    });
  }
  void stage_signs() const {
    all([](const HadamardBlock& b) { b.stage_signs(); });
  }
  void stage_packed() const {
    all([](const HadamardBlock& b) { b.stage_packed(); });
  }
  void load() const {
    all([](const HadamardBlock& b) { b.load(); });
  }
  template <int kRounds>
  void rounds(int log) const {
    all([log](const HadamardBlock& b) { b.rounds<kRounds>(log); });
  }
  void store() const {
    all([](const HadamardBlock& b) { b.store(); });
  }
  template <int kColumns>
  void mix() const {
    all([](const HadamardBlock& b) { b.mix<kColumns>(); });
  }
};
template <class Take>
Phases(EmulatedBlock&, const Take&) -> Phases<Take>;

constexpr auto kNothing = [] {};  // phases meet when they return

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
    EmulatedBlock block(h.matrix, plan, vector);
    for (int unit = 0; unit < c.m * plan.units; ++unit) {
      const auto take = [&](HadamardBlock& b) { b.take_slice(rows, plan, slice, unit); };
      const Phases phases{block, take};
      if (unit == 0) phases.stage_signs();
      transform_unit(phases, kNothing);
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

// The mixing of a block that keeps its sums until all threads have read the values.
template <int kColumns, class Take>
void mix_in_place(EmulatedBlock& block, const Take& take) {
  struct Sums {
    float of[kHadamardRows][kColumns];
  };
  std::vector<Sums> sums(static_cast<size_t>(block.plan.threads));
  for (const bool writes : {false, true}) {
    block.all_threads([&](HadamardBlock b) {
      take(b);
      auto& own = sums[static_cast<size_t>(b.thread)].of;
      if (writes) {
        b.write_own<kColumns>(own);
      } else {
        b.mix_own<kColumns>(own);
      }
    });
  }
}

// The rows of a cluster that quantizes them, block by block.
void check_tiles(const Case& c, int blocks, int mixed) {
  CAPTURE(c.size);
  CAPTURE(c.columns);
  CAPTURE(blocks);
  CAPTURE(mixed);
  const Matrix h(c.size);
  const HadamardRowPlan plan = plan_hadamard_rows(h.matrix, c.m, c.columns, blocks, mixed);
  if (plan.blocks == 0) return;  // too much for a block
  CHECK(plan.blocks == blocks);
  CHECK(plan.threads % kLanes == 0);
  CHECK(plan.threads <= kMaxHadamardRowThreads);
  Random random(static_cast<uint64_t>(c.columns));
  std::vector<float4> memory(static_cast<size_t>(c.m) * static_cast<size_t>(c.columns) / 4 + 1);
  float* const x = reinterpret_cast<float*>(memory.data());
  std::vector<float> expected;
  for (int i = 0; i < c.m * c.columns; ++i) {
    x[i] = static_cast<float>(random.normal());
    expected.push_back(x[i]);
  }
  compute::cpu_device().hadamard({expected.data(), c.m, c.columns}, c.size, false);

  const bool mixes = h.matrix.order > 1;
  const bool vector = c.columns % 4 == 0;
  const HadamardRows rows{x, c.columns, nullptr, 0, c.m, c.columns, vector};
  int64_t wrong = 0, seen = 0;
  for (int row = 0; row < c.m; ++row) {
    for (int rank = 0; rank < blocks; ++rank) {
      EmulatedBlock block(h.matrix, plan, vector);
      const auto take = [&](HadamardBlock& b) { b.take_tiles(rows, plan, row, rank); };
      const Phases phases{block, take};
      if (mixes) phases.stage_packed();
      transform_rounds(phases, kNothing);
      if (mixes && mixed == 4) mix_in_place<4>(block, take);
      if (mixes && mixed == 8) mix_in_place<8>(block, take);
      HadamardBlock one = block.thread(0);
      const int start = one.take_tiles(rows, plan, row, rank);
      for (int i = one.share.first; i < one.share.last; ++i, ++seen) {
        const float got =
            mixes ? one.values[i - one.share.first] : one.values[one.at(i)] * h.matrix.scale;
        wrong += same_bits(got, expected[static_cast<size_t>(row * c.columns + start + i)]) ? 0 : 1;
      }
    }
  }
  CHECK(wrong == 0);
  CHECK(seen == int64_t{c.m} * c.columns);
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

TEST_CASE("hadamard: the blocks of a cluster make whole rows, of one segment or of several") {
  for (const Case& c :
       {Case{2, 3, 6}, Case{2, 1, 514}, Case{48, 2, 624}, Case{64, 2, 64}, Case{64, 1, 4096},
        Case{96, 2, 1056}, Case{384, 2, 384}, Case{384, 2, 1152}, Case{1024, 2, 1024},
        Case{1376, 2, 11008}, Case{4096, 1, 8192}, Case{5120, 1, 5120}, Case{11008, 1, 11008},
        Case{13824, 1, 13824}, Case{14336, 1, 14336}}) {
    for (const int blocks : {1, 2, 4, 8}) {
      check_tiles(c, blocks, 4);
      if (c.size != 48 && c.size != 1376) check_tiles(c, blocks, 8);  // lengths of 4
    }
  }
}

TEST_CASE("hadamard: long rows are quantized by more blocks, or by a launch of their own") {
  for (const int64_t size : {2, 96, 1024, 11008, 14336, 18944, 28672, 32768, 49152}) {
    CAPTURE(size);
    const Matrix h(size);
    for (const int m : {1, 8, 33, 257, 2048}) {
      const HadamardRowPlan plan = choose_hadamard_rows(h.matrix, m, static_cast<int>(size));
      if (plan.blocks == 0) continue;
      CHECK(plan.shared_bytes <= 218 * 1024);
      CHECK((plan.blocks & (plan.blocks - 1)) == 0);
      CHECK(plan.blocks <= kMaxCluster);
      CHECK(plan.threads <= kMaxHadamardRowThreads);
    }
  }
  for (const int64_t size : {64, 384, 4096, 11008, 14336, 28672}) {
    CAPTURE(size);
    const Matrix h(size);
    CHECK(choose_hadamard_rows(h.matrix, 2048, static_cast<int>(size)).blocks == 1);
    CHECK(choose_hadamard_rows(h.matrix, 40, static_cast<int>(size)).blocks == 2);
    // Many rows of H_m, few tokens: a launch of more blocks than a cluster has is faster.
    CHECK(choose_hadamard_rows(h.matrix, 1, static_cast<int>(size)).blocks ==
          (size == 11008 ? 0 : 8));
  }
  CHECK(choose_hadamard_rows(Matrix(1024).matrix, 1, 1024 * 1024).blocks == 0);
  CHECK(choose_hadamard_rows(Matrix(12).matrix, 2048, 1200).blocks == 0);  // a length of 1
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
