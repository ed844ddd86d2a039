#include "passes/allocation/prepared_regions.h"

#include "passes/layers.h"
#include "passes/passes.h"

namespace abq::passes {

PreparedRegions::PreparedRegions(const ir::Module& module, PassContext& context)
    : module_(module), context_(context) {
  if (context.recipe.rotation) rotate_ = create_rotate();
}

Result<ir::Module> PreparedRegions::prepare(const ir::Region& region) {
  if (!rotate_) return extract_region(module_, region);
  ir::Module changed = module_;  // handles: no weight is copied
  ir::Region& copy = changed.regions[static_cast<size_t>(&region - module_.regions.data())];
  auto& pass = dynamic_cast<BlockPass&>(*rotate_);
  const Status status = region.kind == ir::RegionKind::kBlock
                            ? pass.run(changed, copy, context_)
                            : pass.run_end(changed, copy, context_);
  if (!status.ok()) return status.with_context(region.name);
  return extract_region(changed, copy);
}

}  // namespace abq::passes
