#include "ir/residual_stream.h"

#include <algorithm>
#include <set>

#include "ir/patterns.h"

namespace abq::ir {
namespace {

class StreamFinder {
 public:
  explicit StreamFinder(const Region& region) : region_(region) {}

  Result<ResidualStream> find() {
    if (region_.kind == RegionKind::kEmbed) return find_embedding();
    stream_.insert(region_.arguments.at(0));
    found_.width = region_.type(region_.arguments.at(0)).shape.back();
    for (int i = 0; i < static_cast<int>(region_.nodes.size()); ++i)
      ABQ_RETURN_IF_ERROR(visit(i).with_context(node(i).name));
    const bool gives_it = stream_.contains(region_.results.at(0));
    if (gives_it != (region_.kind == RegionKind::kBlock)) {
      return unsupported("{}: its result {} the residual stream, expected {}", region_.name,
                         gives_it ? "is" : "is not",
                         gives_it ? "logits made from it" : "sums that begin with its argument");
    }
    return std::move(found_);
  }

 private:
  const Node& node(int i) const { return region_.nodes[static_cast<size_t>(i)]; }

  Result<ResidualStream> find_embedding() {
    const ValueId result = region_.results.at(0);
    found_.embedding = region_.producer(result);
    const bool embeds = found_.embedding >= 0 && node(found_.embedding).op == Op::kEmbedding &&
                        owns_weight(region_, found_.embedding, 1) && region_.users(result).empty();
    if (!embeds)
      return unsupported(
          "{}: its result is no row of a table, which is all that is known of "
          "where a residual stream begins",
          region_.name);
    found_.width = region_.type(result).shape.back();
    return std::move(found_);
  }

  bool reads_stream(const Node& n) const {
    return std::any_of(n.operands.begin(), n.operands.end(),
                       [&](ValueId value) { return stream_.contains(value); });
  }

  Status visit(int i) {
    const Node& n = node(i);
    if (!reads_stream(n)) return {};
    if (n.op == Op::kRmsNorm) return visit_norm(i);
    if (n.op == Op::kAdd) return visit_add(i);
    if (!is_rewritable_linear(region_, i) || !stream_.contains(n.operands[0])) {
      return unsupported(
          "{} reads the residual stream; only norms before linears, linears with "
          "weights of their own and sums with results of linears may",
          op_info(n.op).mnemonic);
    }
    found_.readers.push_back(i);
    return {};
  }

  Status visit_norm(int i) {
    if (!feeds_linears_only(region_, node(i).result) || !owns_weight(region_, i, 1)) {
      return unsupported(
          "its result is read by more than linears with weights of their own, or "
          "its weight by more than this norm");
    }
    found_.norms.push_back(i);
    const std::vector<int> users = region_.users(node(i).result);
    found_.readers.insert(found_.readers.end(), users.begin(), users.end());
    return {};
  }

  Status visit_add(int i) {
    for (const ValueId operand : node(i).operands) {
      if (stream_.contains(operand)) continue;
      const int producer = region_.producer(operand);
      if (!is_rewritable_linear(region_, producer) || sole_user(region_, operand) != i) {
        return unsupported(
            "adds %{} to the residual stream, which is no linear's result of this "
            "use alone",
            region_.values[static_cast<size_t>(operand)].name);
      }
      found_.writers.push_back(producer);
    }
    stream_.insert(node(i).result);
    return {};
  }

  const Region& region_;
  std::set<ValueId> stream_;
  ResidualStream found_;
};

}  // namespace

Result<ResidualStream> find_residual_stream(const Region& region) {
  return StreamFinder(region).find();
}

}  // namespace abq::ir
