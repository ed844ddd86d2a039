// Which form of the kernels the host runs.
#pragma once

namespace abq::runtime::cuda {

// Blocks of a token in clusters, as from sm_90 on, or one block a token.
extern bool host_kernels_use_clusters;

}  // namespace abq::runtime::cuda
