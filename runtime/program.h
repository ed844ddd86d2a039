// A plan as plain structs: what a device library that shares no protobuf with the binary reads, and
// what a benchmark can build without a file. Operations and their operands are those of plan.proto.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "compute/device.h"
#include "runtime/stored_weights.h"
#include "runtime/tuning.h"

namespace abq::runtime {

// What computes the attention of prompts on a GPU: whichever is faster as measured, this project's
// kernel, or cuDNN wherever it can. Sliding windows are never cuDNN's.
enum class PrefillAttention { kAuto, kOwn, kCudnn };

struct Program {
  struct Embedding {
    compute::FloatMatrix table;  // [V, H]
  };
  struct RmsNorm {
    compute::FloatMatrix weight;  // [1, H]
    float eps = 0;
  };
  struct Linear {
    compute::FloatMatrix weight;  // [N, K]
  };
  struct QuantizeTokens {
    int bits = 8;
  };
  struct BitLinear {
    StoredWeights weights;
    int activation_bits = 16;  // 16 = weight only
  };
  struct Rope {
    std::span<const float> frequencies;  // inverse frequencies [head_dim / 2]
    int head_dim = 0;
  };
  struct Attention {
    int layer = 0;
    compute::AttentionShape shape;
    int query_bits = 16;
    int kv_bits = 16;
  };
  struct SiluMul {};
  struct Add {};
  // Each `size` consecutive columns times the Hadamard matrix of that size over its root
  // (compute/hadamard.h has its factors; docs/rotation.md says what a device may fuse it with).
  struct Hadamard {
    int64_t size = 0;
  };
  using Operation = std::variant<Embedding, RmsNorm, Linear, QuantizeTokens, BitLinear, Rope,
                                 Attention, SiluMul, Add, Hadamard>;

  // Activation memory: `columns` values a token. bits = 0: float32, else quantized tokens.
  struct Buffer {
    int64_t columns = 0;
    int bits = 0;
  };
  struct Step {
    std::string name;
    std::vector<uint32_t> inputs;  // indices into buffers
    uint32_t output = 0;
    Operation operation;
  };

  int64_t vocab_size = 0;
  int64_t context = 0;
  std::vector<Buffer> buffers;
  // In order; the first is the embedding of the token ids, the last one's output is the logits.
  // Each buffer is written once.
  std::vector<Step> steps;
  std::vector<Tuning> tunings;  // by device
  // Weights whose data pointers are null are random: benchmarks of shapes (bench --model-shape).
  bool random_weights = false;
  // Float linears as one float16 product with float16 activations: the baseline of benchmarks.
  bool fast_float_linears = false;
  PrefillAttention prefill_attention = PrefillAttention::kAuto;
  // Called with a step's index once the device has its own copy of that step's weights.
  std::function<void(int step)> release_step;
};

}  // namespace abq::runtime
