// SmoothQuant (Xiao et al., arXiv 2211.10438): folds its scales into every site of the block
// (passes/scale_sites.h). q and k share a scale of 1: distribution correction learns it, plain
// smoothing leaves it.
#include <algorithm>

#include "passes/passes.h"
#include "passes/scale_sites.h"

namespace abq::passes {
namespace {

struct Smooth : BlockPass {
  Status run(ir::Module& module, ir::Block& block, PassContext& context) override {
    if (!context.calibrated())
      return invalid_argument("smooth needs calibration text; give --calib FILE");
    const double alpha = context.recipe.smooth_alpha;
    if (!(alpha >= 0 && alpha <= 1))
      return invalid_argument("smooth alpha: expected 0 to 1, got {}", alpha);
    ABQ_ASSIGN_OR_RETURN(const std::vector<ScaleSite> sites,
                         find_scale_sites(module, block, context.input_statistics, alpha));
    for (const ScaleSite& site : sites) {
      const bool changes = std::any_of(site.start.begin(), site.start.end(),
                                       [](float scale) { return scale != 1.0f; });
      if (!changes) continue;
      ABQ_RETURN_IF_ERROR(fold_scales(module, block, site, site.start));
      divide_statistics(block, site, site.start, context.input_statistics);
    }
    return {};
  }
};

}  // namespace

std::unique_ptr<Pass> create_smooth() {
  return std::make_unique<Smooth>();
}

}  // namespace abq::passes
