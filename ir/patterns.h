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
struct UpDownSite {  // up projection -> silu_mul [-> hadamard] -> down projection
  int up = -1;
  int silu_mul = -1;
  int transform = -1;  // the hadamard; -1 where there is none
  int down = -1;
};
struct QueryKeySite {  // q and k projections -> rope -> attention
  int query = -1;
  int key = -1;
  int attention = -1;
};

// The node that reads `value` when one operand of one node is its only use; else -1.
int sole_user(const Region& region, ValueId value);
// True when the weight operand `i` of `node` has no other reader, so that it may be rewritten.
bool owns_weight(const Region& region, int node, size_t i);
// A linear whose weight has no other reader.
bool is_rewritable_linear(const Region& region, int node);
// True when every use of `value` is as the input of a rewritable linear.
bool feeds_linears_only(const Region& region, ValueId value);

// Only sites whose every use is known: a norm or an up projection with another reader is left out,
// since scaling it would change that reader's input.
std::vector<NormSite> find_norm_sites(const Region& region);
std::vector<ValueOutputSite> find_value_output_sites(const Region& region);
std::vector<UpDownSite> find_up_down_sites(const Region& region);
std::vector<QueryKeySite> find_query_key_sites(const Region& region);

}  // namespace abq::ir
