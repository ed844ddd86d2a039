// Sites that passes work on, found by the shape of the graph alone (never by model name).
#pragma once

#include <vector>

#include "ir/graph.h"

namespace abq::ir {

// Node indices into Region::nodes.
struct NormSite {  // norm -> all linears that read it
  int norm = -1;
  std::vector<int> linears;
};
struct ValueOutputSite {  // v projection -> attention -> o projection
  int value = -1;
  int attention = -1;
  int output = -1;
};
struct UpDownSite {  // up projection -> silu_mul -> down projection
  int up = -1;
  int silu_mul = -1;
  int down = -1;
};
struct QueryKeySite {  // q and k projections -> rope -> attention
  int query = -1;
  int key = -1;
  int attention = -1;
};

// Only sites whose every use is known: a norm or an up projection with another reader is left out,
// since scaling it would change that reader's input.
std::vector<NormSite> find_norm_sites(const Region& region);
std::vector<ValueOutputSite> find_value_output_sites(const Region& region);
std::vector<UpDownSite> find_up_down_sites(const Region& region);
std::vector<QueryKeySite> find_query_key_sites(const Region& region);

}  // namespace abq::ir
