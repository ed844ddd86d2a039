// The pass of the helper: blocks, and the norm before the head.
//
//   rms_norm(x, g), linear(., w)  ==>  rms_norm(x, 1), linear(., w * g over columns)
#include "passes/fold_norms.h"

#include <algorithm>

#include "ir/patterns.h"
#include "passes/layers.h"
#include "passes/passes.h"

namespace abq::passes {
namespace {

struct FoldNorms : BlockPass {
  Status run(ir::Module& module, ir::Block& block, PassContext&) override {
    return fold_norms(module, block);
  }
  bool has_ends() const override { return true; }
  Status run_end(ir::Module& module, ir::Region& end, PassContext&) override {
    return fold_norms(module, end);
  }
};

}  // namespace

Status fold_norms(ir::Module& module, ir::Region& region) {
  for (const ir::NormSite& site : ir::find_norm_sites(region)) {
    const ir::ValueId norm_weight = region.nodes[static_cast<size_t>(site.norm)].operands[1];
    ABQ_ASSIGN_OR_RETURN(const std::vector<float> scales,
                         load_finite_weight(module, region, norm_weight));
    if (std::all_of(scales.begin(), scales.end(), [](float v) { return v == 1.0f; })) continue;
    for (const int linear : site.linears) {
      const ir::ValueId weight = region.nodes[static_cast<size_t>(linear)].operands[1];
      ABQ_RETURN_IF_ERROR(change_weight(module, region, weight, [&](MatrixView<float> w) {
        for (int64_t r = 0; r < w.rows; ++r)
          for (int64_t c = 0; c < w.cols; ++c)
            w.row(r)[c] *= scales[static_cast<size_t>(c)];
      }));
    }
    const std::vector<float> ones(scales.size(), 1.0f);
    module.replace_weight(region, norm_weight,
                          ir::make_f32_tensor(region.type(norm_weight).shape, ones));
  }
  return {};
}

std::unique_ptr<Pass> create_fold_norms() {
  return std::make_unique<FoldNorms>();
}

}  // namespace abq::passes
