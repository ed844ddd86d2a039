// The attention kernels on a GPU.
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <cstdlib>
#include <string_view>

#include "attention_cases.h"
#include "runtime/cuda/cuda_status.h"

namespace abq::runtime::cuda {
namespace {

void require(cudaError_t error, const char* what) {
  const std::string words = std::string(what) + ": " + cudaGetErrorString(error);
  INFO(words);
  REQUIRE(error == cudaSuccess);
}

}  // namespace

std::shared_ptr<std::byte> kernel_memory(int64_t bytes) {
  void* memory = nullptr;
  require(cudaMalloc(&memory, static_cast<size_t>(bytes > 0 ? bytes : 1)), "cudaMalloc");
  require(cudaMemset(memory, 0xff, static_cast<size_t>(bytes)), "cudaMemset");
  return {static_cast<std::byte*>(memory), [](std::byte* p) { (void)cudaFree(p); }};
}
void copy_to_kernels(void* to, const void* from, int64_t bytes) {
  require(cudaMemcpy(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice), "upload");
}
void copy_from_kernels(void* to, const void* from, int64_t bytes) {
  require(cudaDeviceSynchronize(), "kernels");
  require(cudaMemcpy(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost), "download");
}

TEST_CASE("every width of queries, keys and values agrees with the reference") {
  for (const int kv_bits : {16, 8, 4, 3, 2}) {
    for (const int query_bits : {16, 8, 4}) {
      AttentionCase test;
      test.kv_bits = kv_bits;
      test.query_bits = query_bits;
      test.head_dim = 128;
      test.prompts = {{130}, {5}};
      test.decoded = 3;
      test.token_bits = query_bits < 16 ? query_bits : 8;
      test.seed = static_cast<uint64_t>(100 * kv_bits + query_bits);
      check_attention(test);
    }
  }
}

TEST_CASE("every head size and number of heads agrees with the reference") {
  for (const int head_dim : {32, 64, 96, 128, 256, 34}) {
    for (const int group : {1, 2, 4}) {
      AttentionCase test;
      test.kv_heads = 2;
      test.heads = 2 * group;
      test.head_dim = head_dim;
      test.kv_bits = group == 1 ? 16 : group == 2 ? 8 : 2;
      test.query_bits = group == 4 ? 3 : 16;
      test.prompts = {{64}, {1, 65}};
      test.decoded = 2;
      test.seed = static_cast<uint64_t>(10 * head_dim + group);
      check_attention(test);
    }
  }
}

TEST_CASE("heads are transformed behind the rotation with the CPU's bits") {
  for (const int head_dim : {16, 32, 64, 128, 256}) {
    for (const int kv_bits : {16, 8, 4, 2}) {
      AttentionCase test;
      test.heads = 4;
      test.kv_heads = 2;
      test.head_dim = head_dim;
      test.kv_bits = kv_bits;
      test.query_bits = kv_bits == 8 ? 16 : kv_bits;
      test.transformed = true;
      test.rotated = head_dim != 16;
      test.prompts = {{64}, {1, 65}};
      test.decoded = 3;
      test.seed = static_cast<uint64_t>(7 * head_dim + kv_bits);
      check_attention(test);
    }
  }
}

TEST_CASE("more query heads than a block holds agree with the reference") {
  for (const int heads : {11, 16, 71}) {
    AttentionCase test;
    test.heads = heads;
    test.kv_heads = 1;
    test.kv_bits = 8;
    test.prompts = {{20}, {7}};
    test.decoded = 2;
    check_attention(test);
  }
}

TEST_CASE("chunks of a prompt and starts inside it agree with the reference") {
  for (const int kv_bits : {16, 4}) {
    AttentionCase test;
    test.heads = 2;
    test.kv_heads = 1;
    test.kv_bits = kv_bits;
    test.query_bits = kv_bits;
    test.prompts = {{300}, {1, 5, 64, 130, 100}, {130, 170}};
    test.decoded = 4;
    check_attention(test);
  }
}

TEST_CASE("windows agree with the reference") {
  for (const int64_t window : {1, 40, 64, 100}) {
    for (const int kv_bits : {16, 8}) {
      AttentionCase test;
      test.heads = 2;
      test.kv_heads = 2;
      test.window = window;
      test.kv_bits = kv_bits;
      test.prompts = {{200, 60}, {30}};
      test.decoded = 3;
      check_attention(test);
    }
  }
}

TEST_CASE("parts of several tiles of tokens agree with the reference") {
  // Many kv heads have few parts, so that a warp takes several tiles in turn.
  for (const int kv_bits : {16, 8, 4, 2}) {
    for (const int head_dim : {64, 128, 256}) {
      AttentionCase test;
      test.kv_heads = head_dim == 64 ? 64 : 96;
      test.heads = head_dim == 64 ? 128 : 96;
      test.head_dim = head_dim;
      test.kv_bits = kv_bits;
      test.rotated = head_dim != 128;
      test.prompts = {{head_dim == 64 ? 450 : 300}, {100}};
      test.decoded = 2;
      test.decode_only = kv_bits != 8;
      check_attention(test);
    }
  }
}

TEST_CASE("batches of sequences at unequal positions agree with the reference") {
  AttentionCase test;
  test.heads = 8;
  test.kv_heads = 2;
  test.kv_bits = 4;
  test.query_bits = 4;
  for (int i = 0; i < 67; ++i)
    test.prompts.push_back({1 + i * 5 % 97});
  test.decoded = 2;
  check_attention(test);
}

TEST_CASE("rows of many tiles are quantized, with ragged ends") {
  for (const int head_dim : {128, 66}) {
    for (const int heads : {32, 40, 64}) {
      AttentionCase test;
      test.heads = heads;
      test.kv_heads = 8;
      test.head_dim = head_dim;
      test.kv_bits = 8;
      test.rotated = false;
      test.prompts = {{9}, {2}};
      test.decoded = 2;
      test.token_bits = heads == 40 ? 5 : 8;
      check_attention(test);
    }
  }
}

TEST_CASE("rope rotates rows and batches") {
  for (const bool batched : {false, true}) {
    check_rope(128, 4096, 17, batched);
    check_rope(64, 640, 1, batched);
    check_rope(10, 30, 5, batched);
  }
}

}  // namespace abq::runtime::cuda
