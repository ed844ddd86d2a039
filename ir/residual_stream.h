// Where a region reads and writes the residual stream, the sum that runs through all blocks; found
// by the shape of the graph alone.
#pragma once

#include <vector>

#include "ir/graph.h"
#include "support/status.h"

namespace abq::ir {

// Node indices into Region::nodes.
struct ResidualStream {
  int embedding = -1;        // whose table's rows begin it; embed regions only
  std::vector<int> norms;    // that normalize it
  std::vector<int> readers;  // linears that read it, behind a norm or as it is
  std::vector<int> writers;  // linears whose results are added to it
  int64_t width = 0;         // its channels
};

// Unsupported names the node whose use of the stream is none of these: nothing can be said about
// the stream in other coordinates then. Every weight of norms, readers, writers and the embedding
// has one reader in the region.
Result<ResidualStream> find_residual_stream(const Region& region);

}  // namespace abq::ir
