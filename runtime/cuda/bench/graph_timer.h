// Time of one launch among many of a CUDA graph: what a decode step pays, without the host.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>

#include "support/status.h"

namespace abq::runtime::cuda {

inline constexpr int kGraphLaunches = 200;

// Median microseconds of one of `launches` calls of `enqueue` (which gets their numbers), captured
// into a graph that is replayed. The calls must be such as capture allows.
Result<double> time_graph(int launches, const std::function<Status(int, cudaStream_t)>& enqueue);

// Copies of `bytes` that a graph must rotate over so that each one has left the L2 cache when it is
// read again: they exceed twice the cache together. At most kGraphLaunches.
Result<int> cold_copies(int64_t bytes);

// Median microseconds of a kernel that only reads `bytes` of device memory, cold, with the best of
// a set of grids. `overlapped`: launches may start before the one ahead ends, as those of the
// linears do.
Result<double> time_read(int64_t bytes, bool overlapped);

}  // namespace abq::runtime::cuda
