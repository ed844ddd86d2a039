// --target-bits, --target-size, --max-kl: one scheme for each layer, chosen by what it costs
// (docs/bit_allocation.md).
#pragma once

#include <optional>

#include "frontend/frontend.h"
#include "passes/allocation/candidates.h"
#include "passes/allocation/sensitivity.h"
#include "passes/pass.h"
#include "runtime/engine.h"
#include "tools/compile.h"
#include "tools/sensitivity_cache.h"

namespace abq::tools {

class BitAllocation {
 public:
  // Finds the candidates and measures what each costs, or takes that from the work folder. The
  // context has its recipe, device and calibration windows; `tokenizer_bytes` go into the artifact
  // as they are. Errors of find_candidates and
  // measure_sensitivity.
  static Result<BitAllocation> measure(const CompileOptions& options,
                                       const frontend::Checkpoint& checkpoint,
                                       const passes::PassContext& context, int64_t tokenizer_bytes);

  // Gives the context the recipe with the chosen schemes, and its report. InvalidArgument with what
  // can be reached when no choice meets the target.
  Status choose(passes::PassContext& context) const;
  // KL(float model || artifact) in nats per token, on the windows that were measured on.
  Result<double> measure_artifact(std::shared_ptr<const runtime::LoadedPlan> plan) const;
  // Whether an artifact meets the target. If not, the next choice is stricter by as much as this
  // one was off.
  bool accept(const proto::Report& report, int64_t file_size);

  // For a finished compilation: deletes what was kept, unless in a folder that was asked for.
  void remove_work() const {
    if (options_.work_dir.empty()) cache_.remove();
  }

 private:
  BitAllocation(const CompileOptions& options, const frontend::Checkpoint& checkpoint)
      : options_(options), module_(checkpoint.module) {}

  Status find_layers(const passes::PassContext& context);
  void choose_windows(const passes::PassContext& context);
  std::vector<passes::SensitivityUnit> measured_units() const;
  passes::PassContext own_context() const;
  Result<passes::Sensitivity> sensitivity(const frontend::Checkpoint& checkpoint);
  Status fill_choices(const passes::Sensitivity& sensitivity);
  int64_t bytes_beside_linears(int64_t tokenizer_bytes) const;
  std::string target_words() const;
  Status out_of_reach(const quant::AllocationReport& nearest) const;

  CompileOptions options_;
  ir::Module module_;     // the checkpoint's, with attention widths; handles
  quant::Recipe recipe_;  // as it was given
  std::map<std::string, quant::Scheme> schemes_;
  std::vector<passes::CandidateUnit> candidates_;
  int64_t weights_ = 0;                        // of all block linears
  std::vector<std::vector<int32_t>> windows_;  // those that KLs are of, then the others
  int64_t measured_windows_ = 0;
  std::shared_ptr<compute::TensorDevice> device_;
  passes::StreamOptions stream_options_;
  SensitivityCache cache_;
  quant::AllocationReport table_;  // all but what was chosen
  int64_t other_bytes_ = 0;        // of the artifact, beside the linears
  double kl_allowance_ = 0;        // what predictions may add up to
};

}  // namespace abq::tools
