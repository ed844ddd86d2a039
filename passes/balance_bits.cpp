// Turns the recipe's requests for bit balance into weight levels (ABQ-LLM, arXiv 2408.08554: an odd
// number of levels lets a narrow code stand for zero and for both signs alike).
//
//   layer scheme w2a8, requested w2ba8  ==>  layer scheme w2ba8: 5 levels instead of 4
//
// Apart from assign-schemes, so that a method may run passes of its own in between or leave it out.
// Only 1 and 2 bits gain from it; other widths are InvalidArgument, all of them reported together.
#include <fmt/ranges.h>

#include "passes/passes.h"
#include "passes/scheme_resolution.h"

namespace abq::passes {
namespace {

struct BalanceBits : GraphPass {
  Status run(ir::Module& /*module*/, PassContext& context) override {
    std::vector<std::string> problems;
    std::map<int, int> layers_by_levels;
    for (auto& [name, scheme] : context.layer_schemes) {
      if (!requested_scheme(context.recipe, name).weights.balanced) continue;
      if (scheme.weights.bits > 2) {
        problems.push_back(fmt::format("{}: bit balance needs 1 or 2 weight bits, got {}", name,
                                       scheme.weights.bits));
        continue;
      }
      scheme.weights.balanced = true;
      ++layers_by_levels[scheme.weights.levels()];
    }
    if (!problems.empty()) return invalid_argument("{}", fmt::join(problems, "\n"));
    for (const auto& [levels, count] : layers_by_levels)
      context.report.notes.push_back(
          fmt::format("bit balance: {} of {} block linears have {} levels", count,
                      context.layer_schemes.size(), levels));
    return {};
  }
};

}  // namespace

std::unique_ptr<Pass> create_balance_bits() {
  return std::make_unique<BalanceBits>();
}

}  // namespace abq::passes
