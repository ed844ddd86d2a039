// Rotation (QuaRot, arXiv 2404.00456): the same float function in other coordinates, where no
// channel stands out and rounding loses less.
//
//   rms_norm(x, g), linear(., w)         ==>  rms_norm(x, 1), linear(., w g Q)      residual
//   readers add(x, linear(., w))                 ==>  add(x, linear(., Q^T w))              and
//   writers embedding(., t)                      ==>  embedding(., t Q) linear(attention(..,
//   linear(., v)))  ==>  linear(attention(.., linear(., H v)), o H^T), per head attention(q, k, v)
//   ==>  attention(hadamard(q), hadamard(k), v) linear(silu_mul(gate, up), w)        ==>
//   linear(hadamard(silu_mul(gate, up)), w H^T)
//
// docs/rotation.md has the formulas and the choices. Weights become f32, embedding and head f16
// where they had 16 bits before; tied embeddings become two tensors. Queries and keys are
// transformed only where attention quantizes one of them.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "compute/hadamard.h"
#include "ir/patterns.h"
#include "ir/residual_stream.h"
#include "passes/fold_norms.h"
#include "passes/layers.h"
#include "passes/passes.h"
#include "passes/rotation.h"

namespace abq::passes {
namespace {

constexpr float kLargestHalf = 65504.0f;

const ir::Node& node_at(const ir::Region& region, int index) {
  return region.nodes[static_cast<size_t>(index)];
}

std::vector<int> nodes_of(const ir::Region& region, ir::Op op) {
  std::vector<int> found;
  for (size_t i = 0; i < region.nodes.size(); ++i)
    if (region.nodes[i].op == op) found.push_back(static_cast<int>(i));
  return found;
}

// ---- What must hold of every region before the first weight changes

Status check_value_output(const ir::Region& region) {
  const std::vector<ir::ValueOutputSite> sites = ir::find_value_output_sites(region);
  for (const int attention : nodes_of(region, ir::Op::kAttention)) {
    const bool found = std::any_of(sites.begin(), sites.end(), [&](const ir::ValueOutputSite& s) {
      return s.attention == attention;
    });
    if (!found)
      return unsupported(
          "{}: its values do not come from one linear alone, or its result does not go to one "
          "alone; leave their transform out with \"value_output\": false",
          node_at(region, attention).name);
  }
  return {};
}

Status check_down(const ir::Region& region, int64_t size) {
  for (const int silu_mul : nodes_of(region, ir::Op::kSiluMul)) {
    const int64_t width = region.type(node_at(region, silu_mul).result).shape.back();
    if (size > 0 && (width % size != 0 || !compute::has_hadamard(size)))
      return invalid_argument(
          "{}: its {} channels are not segments of \"down_size\": {} with a Hadamard matrix; leave "
          "it out, or give {} for the widest",
          node_at(region, silu_mul).name, width, size, compute::largest_hadamard(width));
    if (!ir::feeds_linears_only(region, node_at(region, silu_mul).result))
      return unsupported(
          "{}: its result is read by more than linears with weights of their own; leave its "
          "transform out with \"down\": false",
          node_at(region, silu_mul).name);
  }
  return {};
}

// ---- One region

class RegionRotation {
 public:
  RegionRotation(ir::Module& module, ir::Region& region, const Rotation& rotation,
                 const quant::RotationSettings& settings, PassContext& context)
      : module_(module),
        region_(region),
        rotation_(rotation),
        settings_(settings),
        schemes_(context.layer_schemes),
        report_(*context.report.rotation) {}

  Status run() {
    if (!rotation_.is_identity()) {
      ABQ_RETURN_IF_ERROR(fold_norms(module_, region_));
      ABQ_RETURN_IF_ERROR(rotate_residual());
    }
    if (settings_.value_output) ABQ_RETURN_IF_ERROR(transform_values());
    if (settings_.query_key) transform_queries_and_keys();
    if (settings_.down) ABQ_RETURN_IF_ERROR(transform_down_inputs());
    return {};
  }

 private:
  template <class Change>
  Status change(int node, const Change& body) {
    return change_weight(module_, region_, node_at(region_, node).operands[1], body);
  }

  Status rotate_residual() {
    ABQ_ASSIGN_OR_RETURN(const ir::ResidualStream stream, ir::find_residual_stream(region_));
    const auto columns = [&](MatrixView<float> w) { rotation_.rotate_columns(w); };
    const auto rows = [&](MatrixView<float> w) { rotation_.rotate_rows(w); };
    if (stream.embedding >= 0) ABQ_RETURN_IF_ERROR(change(stream.embedding, columns));
    for (const int reader : stream.readers)
      ABQ_RETURN_IF_ERROR(change(reader, columns));
    for (const int writer : stream.writers)
      ABQ_RETURN_IF_ERROR(change(writer, rows));
    return {};
  }

  Status transform_values() {
    for (const ir::ValueOutputSite& site : ir::find_value_output_sites(region_)) {
      const int64_t size =
          compute::largest_hadamard(node_at(region_, site.attention).int_attribute("head_dim"));
      if (size == 1) continue;
      ABQ_RETURN_IF_ERROR(
          change(site.value, [&](MatrixView<float> w) { transform_rows(w, size); }));
      ABQ_RETURN_IF_ERROR(
          change(site.output, [&](MatrixView<float> w) { transform_columns(w, size); }));
      report_.value_output = size;
    }
    return {};
  }

  void transform_queries_and_keys() {
    std::vector<int> attentions = nodes_of(region_, ir::Op::kAttention);
    // From the last on: what is put in front of one moves none of those before it.
    std::reverse(attentions.begin(), attentions.end());
    for (const int attention : attentions) {
      const ir::Node& node = node_at(region_, attention);
      const bool quantized =
          node.int_attribute("query_bits") < 16 || node.int_attribute("kv_bits") < 16;
      const int64_t size = compute::largest_hadamard(node.int_attribute("head_dim"));
      if (!quantized || size == 1) continue;
      const ir::ValueId query = node.operands[0];
      const ir::ValueId key = node.operands[1];
      const ir::ValueId turned = insert_transform(attention, query, size);
      region_.nodes[static_cast<size_t>(attention) + 1].operands[0] = turned;
      if (key == query) {
        region_.nodes[static_cast<size_t>(attention) + 1].operands[1] = turned;
      } else {
        const ir::ValueId turned_key = insert_transform(attention + 1, key, size);
        region_.nodes[static_cast<size_t>(attention) + 2].operands[1] = turned_key;
      }
      report_.query_key = size;
    }
  }

  Status transform_down_inputs() {
    std::vector<int> gates = nodes_of(region_, ir::Op::kSiluMul);
    std::reverse(gates.begin(), gates.end());
    for (const int gate : gates) {
      const ir::ValueId value = node_at(region_, gate).result;
      const int64_t size = down_size(value);
      if (size == 1) continue;
      for (const int reader : region_.users(value))
        ABQ_RETURN_IF_ERROR(
            change(reader, [&](MatrixView<float> w) { transform_columns(w, size); }));
      const ir::ValueId turned = insert_transform(gate + 1, value, size);
      for (ir::Node& node : region_.nodes)
        if (node.op == ir::Op::kLinear && node.operands[0] == value) node.operands[0] = turned;
      report_.down = std::max(report_.down, size);
    }
    return {};
  }

  int64_t down_size(ir::ValueId value) const {
    if (settings_.down_size > 0) return settings_.down_size;
    constexpr int kUnknownBits = 1;  // may be few: the widest
    int bits = 16;
    for (const int reader : region_.users(value)) {
      const auto scheme = schemes_.find(node_at(region_, reader).name);
      bits =
          std::min(bits, scheme == schemes_.end() ? kUnknownBits : scheme->second.activation_bits);
    }
    return compute::online_hadamard(region_.type(value).shape.back(), bits);
  }

  // A hadamard of `value` as node `place` of the region.
  ir::ValueId insert_transform(int place, ir::ValueId value, int64_t size) {
    const int producer = region_.producer(value);
    const std::string& name = producer < 0 ? region_.values[static_cast<size_t>(value)].name
                                           : node_at(region_, producer).name;
    const std::string base = producer < 0 ? region_.name + "." + name : name;
    const ir::ValueId result =
        ir::Builder(module_, region_).hadamard(base + ".hadamard", value, size);
    std::rotate(region_.nodes.begin() + place, region_.nodes.end() - 1, region_.nodes.end());
    return result;
  }

  ir::Module& module_;
  ir::Region& region_;
  const Rotation& rotation_;
  const quant::RotationSettings& settings_;
  const std::map<std::string, quant::Scheme>& schemes_;
  quant::RotationReport& report_;
};

struct Rotate : BlockPass {
  Status run(ir::Module& module, ir::Block& block, PassContext& context) override {
    return rotate(module, block, context);
  }
  bool has_ends() const override { return true; }
  Status run_end(ir::Module& module, ir::Region& end, PassContext& context) override {
    ABQ_RETURN_IF_ERROR(begin(module, context));
    const std::vector<ir::ValueId> halves = half_tables(module, end);
    ABQ_RETURN_IF_ERROR(rotate(module, end, context));
    if (!settings_.half_tables) return {};
    for (const ir::ValueId table : halves)
      ABQ_RETURN_IF_ERROR(store_as_half(module, end, table, context));
    return {};
  }

 private:
  Status rotate(ir::Module& module, ir::Region& region, PassContext& context) {
    ABQ_RETURN_IF_ERROR(begin(module, context));
    ABQ_RETURN_IF_ERROR(RegionRotation(module, region, *rotation_, settings_, context).run());
    if (region.kind == ir::RegionKind::kHead) note_untied(module, context);
    return {};
  }

  // Once: looks at the whole module before anything in it changes.
  Status begin(const ir::Module& module, PassContext& context) {
    if (rotation_) return {};
    settings_ = context.recipe.rotation.value_or(quant::RotationSettings{});
    std::optional<int64_t> width;
    for (const ir::Region& region : module.regions) {
      ABQ_ASSIGN_OR_RETURN(const ir::ResidualStream stream, ir::find_residual_stream(region));
      width = width.value_or(stream.width);
      if (stream.width != *width)
        return unsupported("{}: the residual stream has {} channels, and {} before", region.name,
                           stream.width, *width);
      if (settings_.value_output) ABQ_RETURN_IF_ERROR(check_value_output(region));
      if (settings_.down) ABQ_RETURN_IF_ERROR(check_down(region, settings_.down_size));
    }
    rotation_.emplace(settings_.residual, *width, context.recipe.seed);
    context.report.rotation = quant::RotationReport{
        .residual = rotation_->description(), .width = *width, .seed = context.recipe.seed};
    return {};
  }

  // The embedding's and the head's weights that have 16 bits an element.
  static std::vector<ir::ValueId> half_tables(const ir::Module& module, const ir::Region& end) {
    std::vector<ir::ValueId> tables;
    for (const ir::Node& node : end.nodes) {
      if (node.op != ir::Op::kEmbedding && node.op != ir::Op::kLinear) continue;
      const ir::ElementType element = module.weight_tensor(end, node.operands[1]).type.element;
      if (element == ir::ElementType::kF16 || element == ir::ElementType::kBF16)
        tables.push_back(node.operands[1]);
    }
    return tables;
  }

  static Status store_as_half(ir::Module& module, ir::Region& end, ir::ValueId table,
                              PassContext& context) {
    const ir::Type type = module.weight_tensor(end, table).type;
    if (type.element != ir::ElementType::kF32) return {};  // nothing turned it
    ABQ_ASSIGN_OR_RETURN(const std::vector<float> values, load_finite_weight(module, end, table));
    const bool fits = std::all_of(values.begin(), values.end(),
                                  [](float v) { return std::abs(v) <= kLargestHalf; });
    if (fits) {
      module.replace_weight(end, table, ir::make_f16_tensor(type.shape, values));
    } else {
      context.report.notes.push_back(
          fmt::format("rotation: {} has values beyond float16 and is stored as float32",
                      module.weight_name(end, table)));
    }
    return {};
  }

  void note_untied(ir::Module& module, PassContext& context) const {
    const auto tied = module.attributes.find("tie_embeddings");
    if (rotation_->is_identity() || tied == module.attributes.end()) return;
    const auto* value = std::get_if<int64_t>(&tied->second);
    if (value == nullptr || *value == 0) return;
    tied->second = int64_t{0};
    context.report.notes.push_back("rotation: embedding and head were one tensor, and are two now");
  }

  quant::RotationSettings settings_;
  std::optional<Rotation> rotation_;
};

}  // namespace

std::unique_ptr<Pass> create_rotate() {
  return std::make_unique<Rotate>();
}

}  // namespace abq::passes
