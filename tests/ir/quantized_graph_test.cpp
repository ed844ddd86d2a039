// A model with quantized linears equals the float model on the dequantized weights.
#include <doctest/doctest.h>

#include "ir/interpreter.h"
#include "ir/verifier.h"
#include "quant/affine.h"
#include "quant/packed_layout.h"
#include "quant/reference_gemm.h"
#include "tests/ir/tiny_model.h"

namespace abq::ir {

namespace {

enum class Codes { kBytes, kPacked };

ElementType element_of(quant::Encoding encoding) {
  if (encoding == quant::Encoding::kBase5) return ElementType::kBase5;
  return encoding == quant::Encoding::kBase3 ? ElementType::kBase3 : ElementType::kPlanes;
}

Tensor codes_tensor(const quant::QuantizedWeights& q, Codes form) {
  if (form == Codes::kBytes) {
    return make_tensor(ElementType::kU8, 0, {q.n, q.k}, TensorData::from_vector(q.codes));
  }
  const quant::PackedLayout layout = quant::PackedLayout::for_weights(q.spec, q.n, q.k);
  std::vector<std::byte> packed(static_cast<size_t>(layout.total_bytes()));
  const auto row_bytes = static_cast<size_t>(layout.row_bytes());
  const auto k = static_cast<size_t>(q.k);
  for (size_t row = 0; row < static_cast<size_t>(q.n); ++row) {
    quant::pack_row(layout, std::span(q.codes).subspan(row * k, k),
                    std::span(packed).subspan(row * row_bytes, row_bytes));
  }
  return make_tensor(element_of(layout.encoding), layout.code_bits, {q.n, q.k},
                     TensorData::owned(std::move(packed)));
}

quant::QuantizedWeights quantize(const Tensor& w, const quant::WeightSpec& spec) {
  const std::vector<float> values = *to_float(w);
  Result<quant::QuantizedWeights> q =
      quant::quantize_weights({values.data(), w.type.shape[0], w.type.shape[1]}, spec);
  REQUIRE_MESSAGE(q.ok(), q.status().message());
  return std::move(*q);
}

// Replaces every block linear by bit_linear (weight only), and in `reference` its weight by W'.
void quantize_blocks(Module& module, Module& reference, const quant::WeightSpec& spec, Codes form) {
  for (size_t r = 1; r + 1 < module.regions.size(); ++r) {
    Region region = std::move(module.regions[r]);
    std::vector<Node> nodes = std::move(region.nodes);
    region.nodes.clear();
    Builder builder(module, region);
    for (const Node& node : nodes) {
      if (node.op != Op::kLinear) {
        region.nodes.push_back(node);
        continue;
      }
      const std::string name = fmt::format("model.{}.weight", node.name);
      const quant::QuantizedWeights q = quantize(module.tensors.at(name), spec);
      const std::vector<int64_t> groups = {q.n, spec.groups(q.k)};
      Node bit_linear = node;
      bit_linear.op = Op::kBitLinear;
      bit_linear.operands = {
          node.operands[0], builder.weight(fmt::format("{}.codes", name), codes_tensor(q, form)),
          builder.weight(fmt::format("{}.scales", name), make_f32_tensor(groups, q.scales)),
          builder.weight(
              fmt::format("{}.zeros", name),
              make_tensor(ElementType::kU8, 0, groups, TensorData::from_vector(q.zeros)))};
      bit_linear.attributes = weight_spec_attributes(spec);
      region.nodes.push_back(bit_linear);
      Matrix w = make_matrix(q.n, q.k);
      quant::dequantize_weights(q, w.view());
      reference.tensors[name] = make_f32_tensor({q.n, q.k}, w.data);
    }
    module.regions[r] = std::move(region);
    remove_unused_weights(module, module.regions[r]);
  }
}

const Node& node_of(const Region& region, Op op) {
  for (const Node& node : region.nodes) {
    if (node.op == op) return node;
  }
  FAIL("no such node");
  return region.nodes[0];
}

}  // namespace

TEST_CASE("a quantized model equals the float model on the dequantized weights") {
  TinyShape shape;
  shape.hidden = shape.intermediate = 64;
  shape.heads = 8;
  shape.kv_heads = 4;
  shape.head_dim = 8;
  const std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6};
  const quant::WeightSpec specs[] = {
      {8, false, 0, false}, {4, false, 32, false}, {3, false, 0, true}, {2, true, 0, true},
      {2, true, 64, false}, {1, true, 32, true},   {1, false, 0, false}};
  for (const quant::WeightSpec& spec : specs) {
    for (const Codes form : {Codes::kBytes, Codes::kPacked}) {
      Module module = make_tiny_model(shape);
      Module reference = make_tiny_model(shape);
      quantize_blocks(module, reference, spec, form);
      const Status status = verify(module);
      REQUIRE_MESSAGE(status.ok(), status.message());
      const Result<Matrix> logits = Interpreter().logits(module, tokens);
      const Result<Matrix> expected = Interpreter().logits(reference, tokens);
      REQUIRE_MESSAGE(logits.ok(), logits.status().message());
      REQUIRE(expected.ok());
      CHECK(relative_difference(*logits, to_double(*expected)) < 1e-6);
    }
  }
}

TEST_CASE("bit_linear on quantized tokens is the integer product of the codes") {
  const int64_t tokens = 5, n = 7, k = 64;
  const quant::WeightSpec spec = {3, false, 32, false};
  Module module;
  Region& region = module.regions.emplace_back();
  Builder builder(module, region);
  const ValueId x = builder.argument("x", activation_type(k));
  const quant::QuantizedWeights q = quantize(random_f32_tensor({n, k}, 1, 1.0), spec);
  const ValueId codes = builder.weight("codes", codes_tensor(q, Codes::kPacked));
  const ValueId scales = builder.weight("scales", make_f32_tensor({n, 2}, q.scales));
  const ValueId zeros = builder.weight(
      "zeros", make_tensor(ElementType::kU8, 0, {n, 2}, TensorData::from_vector(q.zeros)));
  const ValueId t = builder.node(Op::kQuantizeTokens, "t", {x},
                                 {ElementType::kTokens, 4, {kTokenDim, k}}, {{"bits", int64_t{4}}});
  builder.result(builder.node(Op::kBitLinear, "y", {t, codes, scales, zeros}, activation_type(n),
                              weight_spec_attributes(spec)));
  region.name = std::string("block");
  const Status status = verify(module);
  REQUIRE_MESSAGE(status.ok(), status.message());
  const Matrix input = random_matrix(tokens, k, 2);
  Matrix expected = make_matrix(tokens, n);
  quant::reference_gemm(quant::quantize_tokens(input.view(), 4), q, expected.view());
  const Result<Matrix> y = Interpreter().run(module, region, input);
  REQUIRE_MESSAGE(y.ok(), y.status().message());
  CHECK(relative_difference(*y, to_double(expected)) < 1e-5);
}

TEST_CASE("a weight of more rows than one strip is computed strip by strip") {
  const int64_t n = 1100, k = 32;
  const quant::WeightSpec spec = {4, false, 0, false};
  Module module, reference;
  for (Module* m : {&module, &reference}) {
    Region& region = m->regions.emplace_back();
    region.name = std::string("block");
    Builder builder(*m, region);
    const ValueId x = builder.argument("x", activation_type(k));
    builder.result(
        builder.linear("y", x, builder.weight("model.y.weight", random_f32_tensor({n, k}, 3, 1))));
  }
  // quantize_blocks leaves the first and last region alone.
  for (Module* m : {&module, &reference}) {
    m->regions.insert(m->regions.begin(), Region{});
    m->regions.push_back(Region{});
  }
  quantize_blocks(module, reference, spec, Codes::kPacked);
  const Matrix input = random_matrix(3, k, 4);
  const Result<Matrix> y = Interpreter().run(module, module.regions[1], input);
  const Result<Matrix> expected = Interpreter().run(reference, reference.regions[1], input);
  REQUIRE(y.ok());
  CHECK(relative_difference(*y, to_double(*expected)) < 1e-6);
  const Region& region = module.regions[1];
  const Result<Matrix> w = dequantized_weight(module, region, node_of(region, Op::kBitLinear));
  REQUIRE(w.ok());
  CHECK(w->data == *to_float(reference.tensors.at("model.y.weight")));
}

TEST_CASE("damaged packed codes are reported with the node and row") {
  TinyShape shape;
  Module module = make_tiny_model(shape);
  Module reference = make_tiny_model(shape);
  quantize_blocks(module, reference, {2, true, 0, true}, Codes::kPacked);
  Tensor& codes = module.tensors.at("model.layers.0.attn.q.weight.codes");
  const auto bytes = codes.data.bytes();
  codes.data = TensorData::owned(std::vector<std::byte>(bytes.size(), std::byte{0xff}));
  const std::vector<int32_t> tokens = {1};
  const Status status = Interpreter().logits(module, tokens).status();
  CHECK(status.code() == StatusCode::kCorrupt);
  CHECK(status.message().starts_with("layers.0.attn.q: row 0: "));
}

}  // namespace abq::ir
