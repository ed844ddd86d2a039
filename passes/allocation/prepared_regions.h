// The regions of a float model as the rounding of a compilation finds them, one at a time and in
// any order: in the coordinates that `rotate` leaves, where the recipe has a rotation.
#pragma once

#include <memory>

#include "ir/graph.h"
#include "passes/pass.h"

namespace abq::passes {

class PreparedRegions {
 public:
  // `module` and `context` outlive it; of the context, the recipe counts.
  PreparedRegions(const ir::Module& module, PassContext& context);

  // A module of this one region, an element of module.regions, whose changed weights go with it.
  // Errors of `rotate`.
  Result<ir::Module> prepare(const ir::Region& region);

 private:
  const ir::Module& module_;
  PassContext& context_;
  std::unique_ptr<Pass> rotate_;  // null: weights stay as they are
};

}  // namespace abq::passes
