// Engine: a plan made ready for a device (weights uploaded, every kernel resolved). Session: the
// state of one sequence (KV cache, activation buffers, position). Sessions share an engine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/plan.h"
#include "runtime/program.h"
#include "runtime/token_draw.h"
#include "support/matrix_view.h"
#include "support/status.h"

namespace abq::runtime {

enum class DeviceKind { kAuto, kCpu, kCuda };
Result<DeviceKind> parse_device_kind(std::string_view text);              // "auto", "cpu", "cuda"
Result<PrefillAttention> parse_prefill_attention(std::string_view text);  // "auto", "own", "cudnn"

struct EngineOptions {
  DeviceKind device = DeviceKind::kAuto;
  // Keep no repacked weights: each step repacks, runs and forgets. Slow; for a self-test under a
  // memory budget.
  bool stream_weights = false;
  PrefillAttention prefill_attention = PrefillAttention::kAuto;  // on a GPU
};

struct SessionOptions {
  int64_t max_tokens = 0;       // capacity of the KV cache; 0 = the model's context
  int64_t prefill_chunk = 512;  // most tokens that run through the steps at once
};

class Session {
 public:
  virtual ~Session() = default;
  // Appends tokens to the sequence and returns the logits of the last one [V]. InvalidArgument for
  // an empty list, an id outside the vocabulary, or more tokens than capacity (says how many fit).
  virtual Result<std::vector<float>> run(std::span<const int32_t> tokens) = 0;
  // The same, calling `consume` with logits [m, V] of consecutive positions starting at `first`.
  using LogitsConsumer = std::function<void(int64_t first, MatrixView<const float> logits)>;
  virtual Status run_all(std::span<const int32_t> tokens, const LogitsConsumer& consume) = 0;
  // Like run(), but returns only the token that `draw` finds in the logits (sampler.h). A device
  // may draw without handing the logits out. Internal where a logit is NaN or infinite.
  virtual Result<int32_t> run_next(std::span<const int32_t> tokens, const TokenDraw& draw);
  virtual void reset() = 0;
  virtual int64_t position() const = 0;
  virtual int64_t capacity() const = 0;
  // Bytes of KV cache, and of activation buffers where the session has its own (CPU).
  virtual int64_t memory_bytes() const = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;
  // Resolves every step's kernel (all missing ones are reported together) and prepares the weights.
  // kAuto takes CUDA where it works and the CPU otherwise; the reason is logged.
  static Result<std::shared_ptr<const Engine>> create(std::shared_ptr<const LoadedPlan> plan,
                                                      const EngineOptions& options);
  virtual Result<std::unique_ptr<Session>> new_session(const SessionOptions& options) const = 0;
  // One token for each of M different sessions of this engine, each at its own position: batched
  // decode. logits [M, V]. InvalidArgument when lists and logits do not fit each other, a session
  // belongs to another engine or stands twice, or a token does not fit its session.
  virtual Status decode(std::span<Session* const> sessions, std::span<const int32_t> tokens,
                        MatrixView<float> logits) const = 0;
  virtual const LoadedPlan& plan() const = 0;
  virtual std::string_view device_name() const = 0;  // "cpu-avx2"
  virtual int64_t weight_bytes() const = 0;          // resident in memory
  // Name of the kernel that step `step` runs for M tokens.
  virtual std::string kernel_name(int step, int64_t m) const = 0;

 protected:
  // What decode() can check without knowing the device.
  Status check_batch(std::span<Session* const> sessions, std::span<const int32_t> tokens,
                     MatrixView<float> logits) const;
};

}  // namespace abq::runtime
