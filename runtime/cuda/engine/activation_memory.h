// The activation memory of an engine: every storage of a launch list and the workspace that
// launches share, in one allocation that grows with the number of tokens.
#pragma once

#include <vector>

#include "runtime/cuda/device_array.h"
#include "runtime/cuda/engine/device_weights.h"
#include "runtime/cuda/engine/kernel_choice.h"
#include "runtime/cuda/engine/launch_list.h"
#include "runtime/cuda/engine/prefill_choice.h"
#include "runtime/cuda/token_kernels.h"

namespace abq::runtime::cuda {

// How many tokens a run of the launches has.
struct RunShape {
  int64_t m = 0;           // tokens of the chunk
  int64_t rows = 0;        // tokens of the row-wise tail, at most m
  int64_t max_tokens = 0;  // bound of every position + 1; of a prompt, the last one's
  bool decode = false;     // m sequences with one token each, rows = m
};

class ActivationMemory {
 public:
  ActivationMemory(const LaunchList& list, const DeviceWeights& weights, const Program& program,
                   const KernelChoice& choice, PrefillChoice& prefill);

  // Makes room for runs of this shape. Returns true when memory moved: what was recorded with its
  // addresses is void. Device when there is too little.
  Result<bool> reserve(const RunShape& shape);
  int64_t bytes() const { return memory_.bytes(); }

  // Places in a run of this shape, for the launch with this index. Launches of the row-wise tail
  // see the last `rows` rows of what was written before it.
  Rows rows(const Place& place, const RunShape& shape, int launch) const;
  // With the forms (planes, codes, group sums) that the readers of this storage want for so many
  // tokens.
  TokenTiles tokens(int storage, const RunShape& shape, int launch) const;
  HalfTokens halves(int storage, const RunShape& shape, int launch) const;
  Workspace workspace() const;

 private:
  struct Forms {
    bool planes = false;
    bool codes = false;
    bool group_sums = false;
  };
  bool in_tail(int launch) const { return launch >= list_.first_row_wise; }
  int64_t storage_rows(const Storage& storage, const RunShape& shape) const;
  int64_t storage_bytes(const Storage& storage, int64_t rows) const;
  int64_t workspace_bytes(const RunShape& shape) const;
  int64_t attention_bytes(const AttentionLayer& layer, const RunShape& shape) const;
  Forms forms(int storage, int64_t m) const;
  std::byte* at(int storage) const;

  const LaunchList& list_;
  const DeviceWeights& weights_;
  const Program& program_;
  const KernelChoice& choice_;
  PrefillChoice& prefill_;
  std::vector<std::vector<size_t>> readers_;  // of each storage: launches of quantized linears
  RunShape reserved_;
  MemoryPlan plan_;
  int64_t workspace_offset_ = 0;
  int64_t workspace_size_ = 0;
  DeviceArray<std::byte> memory_;
};

// The parameters of an attention launch for its kernels.
AttentionLayer attention_layer(const Program& program, const AttentionLaunch& launch,
                               const LaunchWeights& weights);
// What the kernel choice of a quantized linear depends on.
LinearProblem linear_problem(const WeightTiles& tiles, int activation_bits, int64_t m);

}  // namespace abq::runtime::cuda
