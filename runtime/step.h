// Steps made ready to run, and the table through which a device offers them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "proto/plan.pb.h"
#include "runtime/cpu/quantized_linear.h"
#include "runtime/kv_cache.h"
#include "runtime/plan.h"
#include "support/matrix_view.h"
#include "support/status.h"

namespace abq::runtime {

// Activation memory of one session on the host: the plan's slots, grown to the largest chunk seen.
class ActivationBuffers {
 public:
  explicit ActivationBuffers(const proto::Plan& plan);

  // Row r of a FLOAT buffer at r * columns; contents survive until the slot's next writer.
  MatrixView<float> floats(uint32_t buffer, int64_t m);
  PackedTokens& tokens(uint32_t buffer);
  // Moves row m - 1 of a FLOAT buffer to row 0: what follows runs on the last token alone.
  void keep_last_row(uint32_t buffer, int64_t m);
  int64_t memory_bytes() const;

 private:
  struct Slot {
    proto::Buffer::Kind kind = proto::Buffer::FLOAT;
    int64_t columns = 0;  // widest buffer of the slot
    std::vector<float> floats;
    PackedTokens tokens;
  };
  const proto::Plan& plan_;
  std::vector<Slot> slots_;
};

// What a step sees of the chunk it runs on.
struct StepContext {
  int64_t m = 0;         // tokens of the chunk
  int64_t position = 0;  // of the chunk's first token in the sequence
  std::span<const int32_t> tokens;
  ActivationBuffers* buffers = nullptr;
  std::vector<KvCache>* caches = nullptr;  // by Attention.layer
  AttentionScratch* attention = nullptr;
};

// A step with its weights in the layout of its kernel. Const: sessions share it.
class PreparedStep {
 public:
  virtual ~PreparedStep() = default;
  virtual void run(StepContext& context) const = 0;
  virtual int64_t weight_bytes() const { return 0; }
  virtual std::string kernel_name(int64_t m) const = 0;
};

// Makes a step ready; Unsupported when the device has no kernel for it.
using StepFactory = Result<std::unique_ptr<PreparedStep>> (*)(const LoadedPlan& plan,
                                                              const proto::Step& step);

// What the CPU runs from one step of a plan on. factory: null where it has no kernel.
struct CpuStep {
  StepFactory factory = nullptr;
  int count = 1;  // steps of the plan that it does, in their order
};

// By the registry: one factory per operation of plan.proto, and one for each pair of neighbours
// that run as one where the second alone reads what the first writes.
CpuStep find_cpu_step(const proto::Plan& plan, int first);

}  // namespace abq::runtime
