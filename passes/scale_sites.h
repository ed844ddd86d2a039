// Sites of a block where a vector of channel scales s can be folded into weights on both sides of a
// value, so that the float function stays what it was (SmoothQuant, arXiv 2211.10438; LET of
// OmniQuant, arXiv 2308.13137):
//
//   norm -> {q, k, v}, norm -> {gate, up}    norm weight / s    linear columns * s
//   v -> o, shared by a kv head's queries    v rows / s         o columns * s
//   up -> down                               up rows / s        down columns * s
//   q <-> k, shared by a kv head's queries   q rows / s         k rows * s
//   and by the two channels of a RoPE pair
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "passes/pass.h"

namespace abq::passes {

// y[o, r, i] = x[o, i] for r < count, over x read as [outer, inner].
struct Repeat {
  int64_t inner = 1;
  int64_t count = 1;
};

// How a site's scales change one weight.
struct ScaleFold {
  enum class Kind { kDivideVector, kDivideRows, kMultiplyRows, kMultiplyColumns };
  int node = -1;  // the reader of the weight, its operand 1
  Kind kind = Kind::kMultiplyColumns;
  std::vector<Repeat> repeats;  // from the site's scales to the weight's channels, in order
};

struct ScaleSite {
  std::string name;          // "layers.0.attn_norm -> q, k, v"
  std::vector<float> start;  // SmoothQuant's scales; 1 on q <-> k
  std::vector<ScaleFold> folds;
};

// All sites of a block. start = max|x|^alpha / max|W_col|^(1 - alpha), at least 1e-2, both maxima
// >= 1e-5: max|x| over the calibration tokens, max|W_col| over all linears that read the input; on
// v -> o the first query head of a group speaks for all of it. InvalidArgument without input
// statistics (`calibrate`). Weights with more than one reader have no site (ir/patterns.h).
Result<std::vector<ScaleSite>> find_scale_sites(
    const ir::Module& module, const ir::Block& block,
    const std::map<std::string, ChannelStatistics>& statistics, double alpha);

// The site's scales as the channels of a fold's weight see them.
std::vector<float> repeat_scales(std::span<const float> scales, const ScaleFold& fold);
// Changes the weights of a site; they become f32.
Status fold_scales(ir::Module& module, ir::Block& block, const ScaleSite& site,
                   std::span<const float> scales);
// Divides the statistics of the inputs whose linears' columns the site multiplies.
void divide_statistics(const ir::Block& block, const ScaleSite& site, std::span<const float> scales,
                       std::map<std::string, ChannelStatistics>& statistics);

}  // namespace abq::passes
