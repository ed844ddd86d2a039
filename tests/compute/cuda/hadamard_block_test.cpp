#include "compute/cuda/hadamard_block.cuh"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "compute/device.h"
#include "compute/hadamard.h"
#include "support/random.h"

namespace abq::compute::cuda {
namespace {

constexpr float kUnwritten = 1e30f;

// Runs the phases of a block thread by thread: in each phase a thread sees what the phases before
// left, never what a thread of the same phase wrote.
struct EmulatedBlock {
  HadamardTask task;
  int64_t first;
  int count;
  std::vector<float> memory;

  template <class Phase>
  void all_threads(const Phase& phase) {
    const std::vector<float> before = memory;
    std::vector<float> after = memory;
    for (int thread = 0; thread < kHadamardThreads; ++thread) {
      std::vector<float> seen = before;
      phase(HadamardBlock{task, first, count, seen.data(), thread});
      for (size_t i = 0; i < seen.size(); ++i)
        if (std::bit_cast<uint32_t>(seen[i]) != std::bit_cast<uint32_t>(before[i]))
          after[i] = seen[i];
    }
    memory = after;
  }
};

// The same phases in the same order as run_hadamard gives them to a block.
struct PhaseRecorder {
  EmulatedBlock& emulated;
  const HadamardTask& task;

  void load() const {
    emulated.all_threads([](const HadamardBlock& b) { b.load(); });
  }
  void first_round() const {
    emulated.all_threads([](const HadamardBlock& b) { b.first_round(); });
  }
  void two_rounds(int h) const {
    emulated.all_threads([h](const HadamardBlock& b) { b.two_rounds(h); });
  }
  void store() const {
    emulated.all_threads([](const HadamardBlock& b) { b.store(); });
  }
  void store_mixed() const {
    emulated.all_threads([](const HadamardBlock& b) { b.store_mixed(); });
  }
};

std::vector<float> emulated_hadamard(const std::vector<float>& x, int64_t size, bool transposed) {
  const HadamardFactors& factors = hadamard_factors(size);
  const std::vector<float>& mix = transposed ? factors.mix_transposed : factors.mix;
  std::vector<float> y(x.size(), kUnwritten);
  HadamardTask task{x.data(),
                    mix.empty() ? nullptr : mix.data(),
                    y.data(),
                    static_cast<int64_t>(x.size()),
                    factors.scale(),
                    static_cast<int>(factors.order),
                    static_cast<int>(factors.length)};
  for (int64_t first = 0; first < task.total; first += task.block_floats()) {
    const int64_t count = std::min(task.block_floats(), task.total - first);
    EmulatedBlock block{task, first, static_cast<int>(count),
                        std::vector<float>(static_cast<size_t>(count), kUnwritten)};
    run_hadamard(PhaseRecorder{block, block.task}, [] {});
  }
  return y;
}

}  // namespace

TEST_CASE("a block of threads computes the transform with the bits of the CPU") {
  struct Case {
    int64_t size, segments;
  };
  for (const Case& c :
       {Case{2, 40}, Case{4, 700}, Case{64, 37}, Case{128, 1}, Case{12, 5}, Case{24, 90},
        Case{96, 3}, Case{384, 7}, Case{28, 80}, Case{2048, 2}, Case{4096, 1}, Case{5120, 1}}) {
    for (const bool transposed : {false, true}) {
      CAPTURE(c.size);
      Random random(7);
      std::vector<float> x(static_cast<size_t>(c.size * c.segments));
      for (float& value : x)
        value = static_cast<float>(random.normal());
      const std::vector<float> y = emulated_hadamard(x, c.size, transposed);
      cpu_device().hadamard({x.data(), c.segments, c.size}, c.size, transposed);
      CHECK(std::equal(y.begin(), y.end(), x.begin(), [](float a, float b) {
        return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
      }));
    }
  }
}

}  // namespace abq::compute::cuda
