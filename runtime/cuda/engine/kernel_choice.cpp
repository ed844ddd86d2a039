#include "runtime/cuda/engine/kernel_choice.h"

namespace abq::runtime::cuda {
namespace {

bool is_for(const TunedChoice& choice, const LinearProblem& problem) {
  return choice.planes == problem.planes &&
         choice.base5 == (problem.encoding == TileEncoding::kBase5) &&
         choice.group_size == problem.group_size &&
         choice.activation_bits == problem.activation_bits && choice.n == problem.n &&
         choice.k == problem.k && (choice.max_m == 0 || problem.m <= choice.max_m);
}

}  // namespace

bool parse_linear_kernel(std::string_view name, LinearKernel* kernel) {
  for (const LinearKernel known : kLinearKernels) {
    if (linear_kernel_name(known) != name) continue;
    *kernel = known;
    return true;
  }
  return false;
}

KernelChoice::KernelChoice(const std::vector<Tuning>& tunings, const std::string& product) {
  for (const Tuning& tuning : tunings) {
    if (tuning.device == product) choices_ = tuning.choices;
  }
}

LinearKernel KernelChoice::operator()(const LinearProblem& problem) const {
  for (const TunedChoice& choice : choices_) {
    if (!is_for(choice, problem)) continue;
    LinearKernel kernel = LinearKernel::kBytes;
    // A choice of another build may name what this one lacks: the rule below always has an answer.
    if (parse_linear_kernel(choice.kernel, &kernel) && can_run(kernel, problem).ok()) return kernel;
    break;
  }
  return choose_kernel(problem);
}

}  // namespace abq::runtime::cuda
