// Runs CUDA kernels on the host, one fiber for each thread, so that index arithmetic and fragments
// can be tested where there is no GPU. Warps' exchanges and barriers are meeting points at which a
// fiber waits for the others; the blocks of a cluster run side by side.
//
// To be included once, before the kernels.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#undef __device__
#undef __global__
#undef __host__
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
#define __device__
#define __global__ inline
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

namespace emulation {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

}  // namespace emulation

// Set before a fiber goes on.
inline emulation::Index threadIdx;
inline emulation::Index blockIdx;
inline emulation::Index gridDim;

namespace emulation {

struct Warp {
  int arrived = 0;
  int generation = 0;
  uint32_t slots[2][32][8];
};
struct Block {
  Index index;
  std::vector<unsigned char> memory;
  std::vector<Warp> warps;
  int arrived = 0;
  int generation = 0;
  int live = 0;
};
struct Fiber {
  ucontext_t context;
  std::vector<unsigned char> stack;
  Block* block = nullptr;
  int thread = 0;
  bool done = false;
};

struct Machine {
  std::vector<Fiber> fibers;
  std::vector<std::unique_ptr<Block>> blocks;  // of the cluster at hand
  std::function<void()> body;
  ucontext_t scheduler;
  Fiber* current = nullptr;
  int cluster_arrived = 0;
  int cluster_generation = 0;
  bool progress = false;
};
inline Machine machine;

inline Warp& warp() {
  return machine.current->block->warps[machine.current->thread / 32];
}
inline int lane() {
  return machine.current->thread % 32;
}

template <class Reached>
void wait_until(const Reached& reached) {
  while (!reached())
    swapcontext(&machine.current->context, &machine.scheduler);
  machine.progress = true;
}

// Every lane gives up to eight words and gets the words of all lanes.
inline const uint32_t (*exchange(const uint32_t* words, int count))[8] {
  Warp& w = warp();
  const int generation = w.generation;
  std::copy_n(words, count, w.slots[generation % 2][lane()]);
  if (++w.arrived == 32) {
    w.arrived = 0;
    ++w.generation;
  }
  machine.progress = true;
  wait_until([&w, generation] { return w.generation != generation; });
  return w.slots[generation % 2];
}

inline void run_fiber() {
  machine.body();
  machine.current->done = true;
  machine.progress = true;
  swapcontext(&machine.current->context, &machine.scheduler);
}

// Runs `body` for all threads of the blocks of one cluster.
inline void run_cluster(unsigned first, unsigned count, unsigned y, unsigned z, unsigned threads,
                        unsigned shared_bytes) {
  constexpr size_t kStackBytes = 96 * 1024;
  machine.blocks.clear();
  machine.fibers.resize(count * threads);
  machine.cluster_arrived = 0;
  for (unsigned b = 0; b < count; ++b) {
    machine.blocks.push_back(std::make_unique<Block>());
    Block& block = *machine.blocks.back();
    block.index = {first + b, y, z};
    block.memory.assign(shared_bytes + 128, 0xff);
    block.warps.resize(threads / 32);
    block.live = static_cast<int>(threads);
    for (unsigned t = 0; t < threads; ++t) {
      Fiber& fiber = machine.fibers[b * threads + t];
      fiber.stack.resize(kStackBytes);
      fiber.block = &block;
      fiber.thread = static_cast<int>(t);
      fiber.done = false;
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.data();
      fiber.context.uc_stack.ss_size = kStackBytes;
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, run_fiber, 0);
    }
  }
  for (bool running = true; running;) {
    running = false;
    machine.progress = false;
    for (Fiber& fiber : machine.fibers) {
      if (fiber.done) continue;
      running = true;
      machine.current = &fiber;
      threadIdx = {static_cast<unsigned>(fiber.thread), 0, 0};
      blockIdx = fiber.block->index;
      swapcontext(&machine.scheduler, &fiber.context);
    }
    if (running && !machine.progress) {
      std::fprintf(stderr, "emulation: threads wait for each other forever\n");
      std::abort();
    }
  }
}

template <class Args>
cudaError_t launch_kernel(const cudaLaunchConfig_t* config, void (*kernel)(Args),
                          const Args& args) {
  unsigned cluster = 1;
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    if (config->attrs[i].id == cudaLaunchAttributeClusterDimension)
      cluster = config->attrs[i].val.clusterDim.x;
  }
  const dim3 grid = config->gridDim;
  gridDim = {grid.x, grid.y, grid.z};
  machine.body = [kernel, args] { kernel(args); };
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; x += cluster)
        run_cluster(x, cluster, y, z, config->blockDim.x,
                    static_cast<unsigned>(config->dynamicSmemBytes));
    }
  }
  return cudaSuccess;
}

template <class T>
T shuffle(T value, int from) {
  uint32_t word;
  static_assert(sizeof(T) == sizeof(word));
  std::memcpy(&word, &value, sizeof(word));
  const uint32_t result = exchange(&word, 1)[from][0];
  std::memcpy(&value, &result, sizeof(word));
  return value;
}

inline float half_at(uint32_t word, int which) {
  __half_raw raw;
  raw.x = static_cast<unsigned short>(which == 0 ? word & 0xffffu : word >> 16);
  return __half2float(__half(raw));
}

}  // namespace emulation

#define cudaLaunchKernelEx emulation::launch_kernel

inline void __syncthreads() {
  emulation::Block& block = *emulation::machine.current->block;
  const int generation = block.generation;
  if (++block.arrived == block.live) {
    block.arrived = 0;
    ++block.generation;
  }
  emulation::machine.progress = true;
  emulation::wait_until([&block, generation] { return block.generation != generation; });
}
inline void __syncwarp() {
  const uint32_t nothing = 0;
  (void)emulation::exchange(&nothing, 1);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulation::shuffle(value, emulation::lane() ^ mask);
}
template <class T>
T __shfl_sync(unsigned, T value, int from) {
  return emulation::shuffle(value, from % 32);
}
inline uint32_t __reduce_max_sync(unsigned, uint32_t value) {
  const auto lanes = emulation::exchange(&value, 1);
  uint32_t result = 0;
  for (int i = 0; i < 32; ++i)
    result = std::max(result, lanes[i][0]);
  return result;
}
inline uint32_t __reduce_add_sync(unsigned, uint32_t value) {
  const auto lanes = emulation::exchange(&value, 1);
  uint32_t result = 0;
  for (int i = 0; i < 32; ++i)
    result += lanes[i][0];
  return result;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
inline uint32_t __byte_perm(uint32_t a, uint32_t b, unsigned selector) {
  const uint64_t bytes = (static_cast<uint64_t>(b) << 32) | a;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i)
    result |= static_cast<uint32_t>((bytes >> (8 * ((selector >> (4 * i)) & 7))) & 0xff) << (8 * i);
  return result;
}
inline uint32_t __float_as_uint(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
inline float __uint_as_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(bits));
  return x;
}

namespace abq::runtime::cuda {

using std::max;
using std::min;

constexpr unsigned kAllLanes = 0xffffffffu;

inline int warp_of_block() {
  return emulation::machine.current->thread / 32;
}

inline void prefetch(const void*) {}
inline uint64_t load_now(const void* address) {
  uint64_t value;
  std::memcpy(&value, address, sizeof(value));
  return value;
}
inline void wait_for_previous() {}
inline void release_next() {}

inline unsigned char* dynamic_shared() {
  const auto address =
      reinterpret_cast<uintptr_t>(emulation::machine.current->block->memory.data());
  return reinterpret_cast<unsigned char*>((address + 127) / 128 * 128);
}

// Fragments as the PTX ISA defines them for m16n8k16.
inline void half_mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const uint32_t words[6] = {a[0], a[1], a[2], a[3], b0, b1};
  const auto lanes = emulation::exchange(words, 6);
  const int g = emulation::lane() / 4;
  const int t = emulation::lane() % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = g + i / 2 * 8;
    const int column = 2 * t + i % 2;
    double sum = static_cast<double>(c[i]);
    for (int k = 0; k < 16; ++k) {
      const int pair = k % 8 / 2;
      const uint32_t left = lanes[row % 8 * 4 + pair][row / 8 + k / 8 * 2];
      const uint32_t right = lanes[column * 4 + pair][4 + k / 8];
      sum += static_cast<double>(emulation::half_at(left, k % 2)) *
             static_cast<double>(emulation::half_at(right, k % 2));
    }
    c[i] = static_cast<float>(sum);
  }
}

// Row r of matrix i at the address of lane 8 i + r; lane 4 r + p gets elements 2p, 2p + 1 of row r.
inline void gather_matrices(uint32_t (&d)[4], const void* row, bool transposed) {
  const auto address = reinterpret_cast<uint64_t>(row);
  const uint32_t words[2] = {static_cast<uint32_t>(address), static_cast<uint32_t>(address >> 32)};
  const auto lanes = emulation::exchange(words, 2);
  const int r = emulation::lane() / 4;
  const int p = emulation::lane() % 4;
  for (int i = 0; i < 4; ++i) {
    uint16_t halves[2];
    for (int x = 0; x < 2; ++x) {
      const int from_row = transposed ? 2 * p + x : r;
      const int from_column = transposed ? r : 2 * p + x;
      const uint32_t* const pointer = lanes[8 * i + from_row];
      halves[x] = reinterpret_cast<const uint16_t*>((static_cast<uint64_t>(pointer[1]) << 32) |
                                                    pointer[0])[from_column];
    }
    d[i] = halves[0] | static_cast<uint32_t>(halves[1]) << 16;
  }
}
inline void load_matrices(uint32_t (&d)[4], const void* row) {
  gather_matrices(d, row, false);
}
inline void load_matrices_transposed(uint32_t (&d)[4], const void* row) {
  gather_matrices(d, row, true);
}

template <int kBytes>
void copy_async(void* shared, const void* global) {
  std::memcpy(shared, global, kBytes);
}
inline void commit_copies() {}
inline void wait_copies() {}

inline float power_of_two(float x) {
  return std::exp2(x);
}

// runtime/cuda/tokens/cluster.cuh: a block's shared memory starts at its rank * 2^24.
struct ByteCounter {
  uint64_t barrier;  // bytes to come
  void expect(uint32_t bytes) { barrier = bytes; }
  void wait() const {
    const volatile uint64_t& left = barrier;
    emulation::wait_until([&left] { return left == 0; });
  }
};
inline void start_cluster() {
  emulation::Machine& machine = emulation::machine;
  const int generation = machine.cluster_generation;
  if (++machine.cluster_arrived == static_cast<int>(machine.fibers.size())) {
    machine.cluster_arrived = 0;
    ++machine.cluster_generation;
  }
  machine.progress = true;
  emulation::wait_until(
      [&machine, generation] { return machine.cluster_generation != generation; });
}
inline uint32_t in_block(const void* variable, int rank) {
  const ptrdiff_t offset = static_cast<const unsigned char*>(variable) - dynamic_shared();
  return static_cast<uint32_t>(rank) << 24 | static_cast<uint32_t>(offset);
}
inline unsigned char* cluster_memory(uint32_t address) {
  unsigned char* const memory = emulation::machine.blocks[address >> 24]->memory.data();
  const auto aligned = (reinterpret_cast<uintptr_t>(memory) + 127) / 128 * 128;
  return reinterpret_cast<unsigned char*>(aligned) + (address & 0xffffffu);
}
template <class T>
void store_counted(uint32_t address, T value, uint32_t counter) {
  std::memcpy(cluster_memory(address), &value, sizeof(value));
  uint64_t left;
  std::memcpy(&left, cluster_memory(counter), sizeof(left));
  left -= sizeof(value);
  std::memcpy(cluster_memory(counter), &left, sizeof(left));
}

}  // namespace abq::runtime::cuda
