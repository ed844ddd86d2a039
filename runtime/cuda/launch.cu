#include "runtime/cuda/launch.cuh"

namespace abq::runtime::cuda {
namespace {

__global__ void probe() {}

}  // namespace

bool launches_overlap() {
  static const bool overlap = [] {
    cudaFuncAttributes attributes{};
    return cudaFuncGetAttributes(&attributes, probe) == cudaSuccess && attributes.ptxVersion >= 90;
  }();
  return overlap;
}

}  // namespace abq::runtime::cuda
