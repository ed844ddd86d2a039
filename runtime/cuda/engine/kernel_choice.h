// Which kernel runs a quantized linear: what was measured on this device where the artifact carries
// it, the built-in rule elsewhere.
#pragma once

#include "runtime/cuda/linear_kernels.h"
#include "runtime/tuning.h"

namespace abq::runtime::cuda {

class KernelChoice {
 public:
  KernelChoice() = default;
  // Takes the choices made for `product` among those that a program carries.
  KernelChoice(const std::vector<Tuning>& tunings, const std::string& product);

  LinearKernel operator()(const LinearProblem& problem) const;
  bool tuned() const { return !choices_.empty(); }

 private:
  std::vector<TunedChoice> choices_;
};

// The kernels of quantized linears by name; false for a name of another build.
bool parse_linear_kernel(std::string_view name, LinearKernel* kernel);

}  // namespace abq::runtime::cuda
