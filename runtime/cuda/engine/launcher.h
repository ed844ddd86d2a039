// Enqueues the launches of a list.
#pragma once

#include "runtime/cuda/engine/activation_memory.h"

namespace abq::runtime::cuda {

// Device memory that a run reads: token ids [m] and the state of its sequences (one, or m to
// decode).
struct RunInputs {
  const int32_t* ids = nullptr;
  const SequenceState* sequences = nullptr;
};

class Launcher {
 public:
  Launcher(const Program& program, const LaunchList& list, const DeviceWeights& weights,
           const ActivationMemory& memory, const KernelChoice& choice, PrefillChoice& prefill);

  void set_fast_float_linears(bool fast) { float_linear_.set_fast(fast); }
  // All launches; those of the row-wise tail only when shape.rows > 0.
  Status run(const RunShape& shape, const RunInputs& inputs, cudaStream_t stream);
  // Bytes a token that all layers' caches take.
  int64_t cache_token_bytes() const { return cache_token_bytes_; }
  // What runs launch `launch` for m tokens of a prompt (1: in decoding), e.g. "cuda.bits".
  std::string kernel_name(size_t launch, int64_t m) const;

 private:
  struct Run;
  Status launch(const Run& run, const EmbedLaunch& launch);
  Status launch(const Run& run, const NormLaunch& launch);
  Status launch(const Run& run, const QuantizeLaunch& launch);
  Status launch(const Run& run, const SiluMulLaunch& launch);
  Status launch(const Run& run, const AddLaunch& launch);
  Status launch(const Run& run, const SplitLaunch& launch);
  Status launch(const Run& run, const QuantizedLinearLaunch& launch);
  Status launch(const Run& run, const FloatLinearLaunch& launch);
  Status launch(const Run& run, const RotaryLaunch& launch);
  Status launch(const Run& run, const HadamardLaunch& launch);
  Status launch(const Run& run, const AttentionLaunch& launch);
  Rows rows(const Run& run, const Place& place) const;

  const Program& program_;
  const LaunchList& list_;
  const DeviceWeights& weights_;
  const ActivationMemory& memory_;
  const KernelChoice& choice_;
  PrefillChoice& prefill_;
  std::vector<int64_t> layer_offsets_;  // of each launch with attention: bytes a token before it
  int64_t cache_token_bytes_ = 0;
  FloatLinear float_linear_;
};

}  // namespace abq::runtime::cuda
