// The quantized block while it learns: channel scales, clip factors and compensation vectors as
// parameters, and the block's weights as functions of them.
//
//   norm weight:  w / s
//   linear:       fake_quantize((w * row scales * column scales + a b^T), clip factors)
//
// Scales are pushed away from zero (1e-2) on use, and times their start where they are learned as
// ratios to it; clip factors are sigmoid(gamma).
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "passes/correction/learner.h"
#include "passes/pass.h"
#include "passes/scale_sites.h"

namespace abq::passes {

// Learned scales nearer to zero are used as if they were this far from it, with their sign.
inline constexpr float kMinScaleMagnitude = 1e-2f;

// What of a block is learned, and from where.
struct StudentOptions {
  bool scales = true;
  bool relative_scales = true;
  bool clips = true;  // false: clip factors stay what clip_start says, and wide means unclipped
  bool compensation = false;
  quant::ClipStart clip_start = quant::ClipStart::kWide;
};

class Student : public BlockLearner {
 public:
  // Parameters at their start. `sites` are the block's (find_scale_sites); `schemes` names every
  // linear's.
  static Result<Student> create(const autodiff::BlockEvaluator& evaluator, const ir::Module& module,
                                const std::map<std::string, quant::Scheme>& schemes,
                                std::vector<ScaleSite> sites, const StudentOptions& options);

  using BlockLearner::run;
  Pass run(autodiff::Tape& tape, const autodiff::Var& x, int64_t context,
           bool learning) const override;

  // Writes the transformed weights into the block (f32) and each quantized linear's clip factors
  // into context.layer_clips, and divides the input statistics; what `quantize` makes of them is
  // what run() multiplies with.
  Status fold(ir::Module& module, ir::Block& block, PassContext& context) const;

  // Learned scales per site, and |a b^T| / |W| of the compensated linear.
  Result<std::vector<quant::ScaleReport>> scale_report() const;
  Result<double> compensation_norm() const;

 private:
  struct LinearState {
    std::string name;
    quant::Scheme scheme;
    int clip_low = -1;  // indices into parameters(); -1 = not learned
    int clip_high = -1;
    std::vector<quant::ClipRatio> fixed_clips;  // not learned; empty = unclipped
    compute::Tensor fixed_low;
    compute::Tensor fixed_high;
    int left = -1;  // compensation: a [1, N] and b [1, K]
    int right = -1;
  };
  // Where the weight of a node gets its scales.
  struct SiteUse {
    size_t site = 0;  // in sites_
    size_t fold = 0;  // in its folds
  };

  explicit Student(const autodiff::BlockEvaluator& evaluator) : BlockLearner(evaluator) {}

  void add_scales(std::vector<ScaleSite> sites, bool relative);
  Status add_linears(const ir::Module& module, const std::map<std::string, quant::Scheme>& schemes,
                     const StudentOptions& options);
  Status add_clips(LinearState& state, ir::ValueId weight, const StudentOptions& options);
  Result<std::vector<quant::ClipRatio>> search_clips(const LinearState& state,
                                                     ir::ValueId weight) const;
  std::vector<quant::ClipRatio> clip_factors(const LinearState& state, ir::ValueId weight) const;
  void add_compensation();

  // The graph of one weight on a tape.
  class WeightGraph;
  // A weight with its scales and compensation, in floats; itself where it has neither.
  compute::Tensor transformed_weight(ir::ValueId weight) const;

  // The scales of a site on a tape, from its parameter.
  autodiff::Var site_scales(autodiff::Tape& tape, size_t site, const autodiff::Var& learned) const;
  std::vector<float> site_scales(size_t site) const;

  std::vector<ScaleSite> sites_;
  std::vector<compute::Tensor> site_starts_;  // what a site's ratios multiply; empty tensors: none
  std::vector<int> site_parameters_;          // of each site
  std::map<ir::ValueId, std::vector<SiteUse>> uses_;  // by weight
  std::map<ir::ValueId, LinearState> linears_;        // by weight
};

}  // namespace abq::passes
