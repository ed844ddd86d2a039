// The step of the optimizer.
#include <cmath>

#include "compute/cuda/element_math.cuh"
#include "compute/cuda/map.cuh"
#include "compute/cuda/row_kernels.h"

namespace abq::compute::cuda {

void adamw(float* parameter, const float* gradient, float* mean, float* variance,
           const AdamWStep& settings, int64_t n, cudaStream_t stream) {
  const double step = static_cast<double>(settings.step);
  const double correction1 = 1.0 - std::pow(settings.beta1, step);
  const double correction2 = 1.0 - std::pow(settings.beta2, step);
  AdamWUpdate update{};
  update.beta1 = static_cast<float>(settings.beta1);
  update.rest1 = static_cast<float>(1.0 - settings.beta1);
  update.beta2 = static_cast<float>(settings.beta2);
  update.rest2 = static_cast<float>(1.0 - settings.beta2);
  update.decay = static_cast<float>(1.0 - settings.rate * settings.weight_decay);
  update.step_size = static_cast<float>(settings.rate / correction1);
  update.root_correction = static_cast<float>(1.0 / std::sqrt(correction2));
  update.epsilon = static_cast<float>(settings.epsilon);
  map(Operands<4, 3>{{parameter, gradient, mean, variance}, {parameter, mean, variance}}, n, update,
      stream);
}

}  // namespace abq::compute::cuda
