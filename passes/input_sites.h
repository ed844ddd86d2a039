// The inputs of a block's quantized linears: linears that read one value at one width can share
// what is known of it, and a launch where their weights are quantized alike.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "quant/scheme.h"
#include "support/status.h"

namespace abq::passes {

struct InputSite {
  ir::ValueId input = 0;
  int bits = 16;             // of the activations
  std::vector<int> linears;  // node indices, in order
};

// In the order of their first linears. Linears whose weights stay float belong to no site.
// InvalidArgument names a linear without a scheme in `schemes` (by node name; assign-schemes).
Result<std::vector<InputSite>> find_input_sites(
    const ir::Block& block, const std::map<std::string, quant::Scheme>& schemes);

}  // namespace abq::passes
