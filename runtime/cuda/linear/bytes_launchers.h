// The byte kernels by form of the weights; one file each, so that they compile side by side.
#pragma once

#include "runtime/cuda/linear/launchers.h"

namespace abq::runtime::cuda {

// Up to 2, 4, 8 planes; base 5.
cudaError_t launch_bytes_planes2(const WeightTiles& w, const TokenTiles& x,
                                 const LinearOutput& output, BlockShape shape, cudaStream_t stream);
cudaError_t launch_bytes_planes4(const WeightTiles& w, const TokenTiles& x,
                                 const LinearOutput& output, BlockShape shape, cudaStream_t stream);
cudaError_t launch_bytes_planes8(const WeightTiles& w, const TokenTiles& x,
                                 const LinearOutput& output, BlockShape shape, cudaStream_t stream);
cudaError_t launch_bytes_base5(const WeightTiles& w, const TokenTiles& x,
                               const LinearOutput& output, BlockShape shape, cudaStream_t stream);

}  // namespace abq::runtime::cuda
