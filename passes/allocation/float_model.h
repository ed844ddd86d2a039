// The float model run over windows of text, block by block: what artifacts are compared with.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "ir/graph.h"
#include "passes/allocation/head_run.h"
#include "passes/pass.h"

namespace abq::passes {

class FloatModel {
 public:
  // Runs all blocks of `module` on context.calibration_windows, on the context's device, and keeps
  // the hidden states before the head as its stream_options say. `module` outlives it.
  static Result<FloatModel> run(const ir::Module& module, PassContext& context);

  // Logits [count, V] of the tokens first .. first + count - 1 of window w.
  Status logits(int64_t w, int64_t first, int64_t count, std::vector<float>& logits);

 private:
  Stream hidden_;
  std::unique_ptr<HeadRun> head_;
  std::vector<float> window_;
  int64_t window_read_ = -1;  // the one in window_
};

}  // namespace abq::passes
