// The launches of a program: its steps with what one kernel can do at once fused into one launch.
// Decided by which step reads what, never by names. No CUDA here: tests run without a device.
//
// clang-format off
//   rms_norm -> quantize_tokens            one launch
//   bit_linears that read the same tokens  one matrix, rows stacked (q|k|v)
//   two of them -> silu_mul                one matrix, rows interleaved (gate|up), silu in its epilogue
//   silu_mul -> quantize_tokens            one launch
//   bit_linear or linear -> add            residual in the epilogue
//   rope -> attention                      rotated where attention writes its cache
//   rope -> hadamard -> attention          and transformed there, heads of powers of two
//   hadamard -> quantize_tokens            one launch
//   attention -> quantize_tokens           one launch when decoding
// clang-format on
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "runtime/program.h"

namespace abq::runtime::cuda {

inline constexpr int kNone = -1;

// Activation memory of a launch list: one matrix with a row a token.
struct Storage {
  enum class Kind { kFloat, kTokens, kHalves };
  Kind kind = Kind::kFloat;
  int64_t columns = 0;
  int bits = 0;   // kTokens
  int first = 0;  // launch that writes it
  int last = 0;   // last launch that reads it
};

// Columns of a float storage, from `column` on. storage == kNone: absent.
struct Place {
  int storage = kNone;
  int64_t column = 0;
  int64_t columns = 0;

  bool present() const { return storage != kNone; }
};

// Steps are indices into Program::steps.
struct EmbedLaunch {
  int step = 0;
  Place y;
};
struct NormLaunch {
  int step = 0;
  Place x;
  Place y;             // absent when only the quantized form is read
  int tokens = kNone;  // storage
};
struct QuantizeLaunch {
  Place x;
  int tokens = kNone;
  bool in_decode = true;  // false: attention_decode has done it
};
struct SiluMulLaunch {
  Place gate;
  Place up;
  Place y;  // or tokens
  int tokens = kNone;
};
struct AddLaunch {
  Place a;
  Place b;
  Place y;
};
struct SplitLaunch {
  Place x;
  int halves = kNone;
};
struct QuantizedLinearLaunch {
  std::vector<int> parts;  // bit_linear steps, in the order of their rows
  bool gated = false;
  int activation_bits = 16;
  int input = kNone;  // storage of tokens, or of halves at 16 bits
  Place residual;
  Place y;
};
struct FloatLinearLaunch {
  std::vector<int> parts;  // linear steps
  Place x;
  Place residual;
  Place y;
};
struct RotaryLaunch {
  int step = 0;
  Place x;
  Place y;
};
struct HadamardLaunch {
  int step = 0;
  Place x;
  Place y;                // scratch if nobody reads it
  int tokens = kNone;     // storage
  bool y_is_read = true;  // by another launch
};
struct AttentionLaunch {
  int step = 0;
  int query_rope = kNone;  // rope steps that are done here
  int key_rope = kNone;
  int query_transform = kNone;  // hadamard steps that are done here, behind the ropes
  int key_transform = kNone;
  Place q;
  Place k;
  Place v;
  Place y;
  int tokens = kNone;     // storage that decoding fills
  bool y_is_read = true;  // by another launch than the quantization of `tokens`
};
using LaunchOperation =
    std::variant<EmbedLaunch, NormLaunch, QuantizeLaunch, SiluMulLaunch, AddLaunch, SplitLaunch,
                 QuantizedLinearLaunch, FloatLinearLaunch, RotaryLaunch, HadamardLaunch,
                 AttentionLaunch>;

struct Launch {
  std::string name;        // of its first step
  std::vector<int> steps;  // that it does
  LaunchOperation operation;
};

struct LaunchList {
  std::vector<Launch> launches;
  std::vector<Storage> storages;
  Place logits;
  // Launches from here on work row by row on float results: they may run on the last tokens alone.
  int first_row_wise = 0;
};

// Unsupported when a step cannot be placed (reads what no step wrote in a form it can read).
Result<LaunchList> make_launch_list(const Program& program);

// Offsets of storages in one block of memory: two whose lives overlap never share bytes.
struct MemoryPlan {
  std::vector<int64_t> offsets;
  int64_t bytes = 0;
};
MemoryPlan plan_memory(std::span<const Storage> storages, std::span<const int64_t> sizes);

}  // namespace abq::runtime::cuda
