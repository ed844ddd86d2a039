#include "runtime/cuda/engine/launch_list.h"

#include "runtime/cuda/engine/launch_builder.h"

namespace abq::runtime::cuda {

Result<LaunchList> make_launch_list(const Program& program) {
  if (program.steps.empty()) return unsupported("the program has no steps");
  return LaunchBuilder(program).build();
}

}  // namespace abq::runtime::cuda
