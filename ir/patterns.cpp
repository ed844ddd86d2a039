#include "ir/patterns.h"

#include <algorithm>

namespace abq::ir {

namespace {

const Node& node_at(const Region& region, int index) {
  return region.nodes[static_cast<size_t>(index)];
}

bool is_result(const Region& region, ValueId value) {
  return std::find(region.results.begin(), region.results.end(), value) != region.results.end();
}

std::vector<int> nodes_of(const Region& region, Op op) {
  std::vector<int> found;
  for (size_t i = 0; i < region.nodes.size(); ++i) {
    if (region.nodes[i].op == op) found.push_back(static_cast<int>(i));
  }
  return found;
}

// The node of kind `op` that computes operand `i` of `user` for that use alone; else -1.
int sole_producer(const Region& region, int user, size_t i, Op op) {
  const ValueId value = node_at(region, user).operands[i];
  const int producer = region.producer(value);
  if (producer < 0 || node_at(region, producer).op != op) return -1;
  return sole_user(region, value) == user ? producer : -1;
}

}  // namespace

int sole_user(const Region& region, ValueId value) {
  const std::vector<int> users = region.users(value);
  if (users.size() != 1 || is_result(region, value)) return -1;
  const std::vector<ValueId>& operands = node_at(region, users[0]).operands;
  return std::count(operands.begin(), operands.end(), value) == 1 ? users[0] : -1;
}

bool owns_weight(const Region& region, int node, size_t i) {
  return sole_producer(region, node, i, Op::kWeight) >= 0;
}

bool is_rewritable_linear(const Region& region, int node) {
  return node >= 0 && node_at(region, node).op == Op::kLinear && owns_weight(region, node, 1);
}

bool feeds_linears_only(const Region& region, ValueId value) {
  const std::vector<int> users = region.users(value);
  return !users.empty() && !is_result(region, value) &&
         std::all_of(users.begin(), users.end(), [&](int user) {
           return is_rewritable_linear(region, user) && node_at(region, user).operands[0] == value;
         });
}

std::vector<NormSite> find_norm_sites(const Region& region) {
  std::vector<NormSite> sites;
  for (const int norm : nodes_of(region, Op::kRmsNorm)) {
    const ValueId value = node_at(region, norm).result;
    if (feeds_linears_only(region, value) && owns_weight(region, norm, 1))
      sites.push_back({norm, region.users(value)});
  }
  return sites;
}

std::vector<ValueOutputSite> find_value_output_sites(const Region& region) {
  std::vector<ValueOutputSite> sites;
  for (const int attention : nodes_of(region, Op::kAttention)) {
    const int value = sole_producer(region, attention, 2, Op::kLinear);
    const int output = sole_user(region, node_at(region, attention).result);
    if (is_rewritable_linear(region, value) && is_rewritable_linear(region, output)) {
      sites.push_back({value, attention, output});
    }
  }
  return sites;
}

std::vector<UpDownSite> find_up_down_sites(const Region& region) {
  std::vector<UpDownSite> sites;
  for (const int silu_mul : nodes_of(region, Op::kSiluMul)) {
    const int up = sole_producer(region, silu_mul, 1, Op::kLinear);
    int transform = sole_user(region, node_at(region, silu_mul).result);
    if (transform >= 0 && node_at(region, transform).op != Op::kHadamard) transform = -1;
    const int down =
        sole_user(region, node_at(region, transform < 0 ? silu_mul : transform).result);
    if (is_rewritable_linear(region, up) && is_rewritable_linear(region, down)) {
      sites.push_back({up, silu_mul, transform, down});
    }
  }
  return sites;
}

std::vector<QueryKeySite> find_query_key_sites(const Region& region) {
  std::vector<QueryKeySite> sites;
  for (const int attention : nodes_of(region, Op::kAttention)) {
    const int query_rope = sole_producer(region, attention, 0, Op::kRope);
    const int key_rope = sole_producer(region, attention, 1, Op::kRope);
    if (query_rope < 0 || key_rope < 0) continue;
    const int query = sole_producer(region, query_rope, 0, Op::kLinear);
    const int key = sole_producer(region, key_rope, 0, Op::kLinear);
    if (is_rewritable_linear(region, query) && is_rewritable_linear(region, key)) {
      sites.push_back({query, key, attention});
    }
  }
  return sites;
}

}  // namespace abq::ir
