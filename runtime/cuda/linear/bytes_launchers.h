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

// Up to 8 tokens (bytes_tokens.h): 1 to 4 planes; base 5. Per channel.
cudaError_t launch_tokens_planes(const WeightTiles& w, const TokenTiles& x,
                                 const LinearOutput& output, BlockShape shape, cudaStream_t stream);
cudaError_t launch_tokens_base5(const WeightTiles& w, const TokenTiles& x,
                                const LinearOutput& output, BlockShape shape, cudaStream_t stream);

// The shape that they run a matrix in; clusters = 0 where they do not.
BlockShape bytes_tokens_shape(const WeightTiles& w);
// Warps of a block of such a shape.
int tokens_warps(const WeightTiles& w, const BlockShape& shape);

}  // namespace abq::runtime::cuda
