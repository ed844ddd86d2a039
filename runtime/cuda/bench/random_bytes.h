// Operands for products whose values do not matter but whose bits must vary: a multiplier fed with
// zeros draws less power and runs faster than it would.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace abq::runtime::cuda {

// `words` random words, each ANDed with `keep` and then ORed with `set`.
cudaError_t fill_random(uint32_t* data, int64_t words, uint32_t keep, uint32_t set,
                        cudaStream_t stream);

}  // namespace abq::runtime::cuda
