#include <doctest/doctest.h>

#include <limits>

#include "ir/verifier.h"
#include "quant/affine.h"
#include "support/parallel.h"
#include "test_model.h"

namespace abq::passes::testing {
namespace {

const std::vector<std::string> kRtn = {"assign-schemes", "balance-bits", "quantize"};

int count_nodes(const ir::Region& region, ir::Op op) {
  int count = 0;
  for (const ir::Node& node : region.nodes)
    count += node.op == op ? 1 : 0;
  return count;
}

std::vector<std::byte> tensor_bytes(const ir::Module& module, const std::string& name) {
  const auto bytes = module.tensors.at(name).data.bytes();
  return {bytes.begin(), bytes.end()};
}

void put_float(ir::Module& module, const std::string& block, const std::string& node,
               const std::string& tensor, std::vector<float> values) {
  ir::Region& region = region_named(module, block);
  const ir::ValueId weight = node_named(region, node).operands[1];
  const std::vector<int64_t> shape = region.type(weight).shape;
  values.resize(static_cast<size_t>(shape[0] * shape[1]), 0.5f);
  module.tensors[tensor] = ir::make_f32_tensor(shape, values);
  region.values[static_cast<size_t>(weight)].type = module.tensors[tensor].type;
}

}  // namespace

TEST_CASE("quantize turns linears into bit_linear and shares quantized tokens per input") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8");
  REQUIRE(run_passes(kRtn, module, context).ok());
  for (const char* name : {"layers.0", "layers.1"}) {
    const ir::Region& block = region_named(module, name);
    CHECK(count_nodes(block, ir::Op::kLinear) == 0);
    CHECK(count_nodes(block, ir::Op::kBitLinear) == 7);
    CHECK(count_nodes(block, ir::Op::kQuantizeTokens) == 4);
  }
  CHECK(module.tensors.contains("model.layers.0.q_proj.weight.codes"));
  CHECK(!module.tensors.contains("model.layers.0.q_proj.weight"));
  CHECK(module.tensors.contains("lm_head.weight"));
  CHECK(!context.float_block.has_value());
}

TEST_CASE("the stored codes are those of the quantizer") {
  ir::Module module = make_test_model();
  const std::vector<float> w = *ir::to_float(module.tensors.at("model.layers.1.up_proj.weight"));
  const Result<quant::QuantizedWeights> expected =
      quant::quantize_weights({w.data(), kFfn, kHidden}, quant::parse_scheme("w3a8-g32")->weights);
  PassContext context = context_for("w3a8-g32");
  REQUIRE(run_passes(kRtn, module, context).ok());
  const std::string base = "model.layers.1.up_proj.weight";
  const auto codes = module.tensors.at(base + ".codes").data.bytes();
  CHECK(std::equal(codes.begin(), codes.end(), expected->codes.begin(), expected->codes.end(),
                   [](std::byte a, uint8_t b) { return std::to_integer<uint8_t>(a) == b; }));
  CHECK(module.tensors.at(base + ".scales").type.shape == std::vector<int64_t>{kFfn, 2});
  CHECK(*ir::to_float(module.tensors.at(base + ".scales")) == expected->scales);
}

TEST_CASE("the quantized model computes what quantized weights and tokens say") {
  const std::vector<int32_t> tokens = make_windows(1, 20)[0];
  const ir::Interpreter interpreter;
  const ir::Module original = make_test_model();
  const ir::Matrix expected = *interpreter.logits(original, tokens);
  // Bounds are a factor of about two above the measured differences of this seed.
  const std::vector<std::pair<std::string, double>> rows = {
      {"w8a8", 0.04}, {"w8a16", 0.03}, {"w4a8", 0.6}, {"w4a16-g32", 0.5}, {"w8a8-sym", 0.04}};
  for (const auto& [scheme, bound] : rows) {
    CAPTURE(scheme);
    ir::Module module = make_test_model();
    PassContext context = context_for(scheme);
    REQUIRE(run_passes(kRtn, module, context).ok());
    const double difference = relative_difference(*interpreter.logits(module, tokens), expected);
    CHECK(difference < bound);
    CHECK(difference > 0);
  }
}

TEST_CASE("layers that share an input at different widths get tokens of their own") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8");
  context.recipe.overrides = {{"*.attn.v", *quant::parse_scheme("w4a4")},
                              {"*.attn.k", *quant::parse_scheme("w8a16")}};
  REQUIRE(run_passes(kRtn, module, context).ok());
  const ir::Region& block = region_named(module, "layers.0");
  CHECK(count_nodes(block, ir::Op::kQuantizeTokens) == 5);
  const auto input_type = [&](const std::string& name) {
    return ir::to_string(block.type(node_named(block, name).operands[0]));
  };
  CHECK(input_type("layers.0.attn.q") == "tokens<8>[T, 64]");
  CHECK(input_type("layers.0.attn.v") == "tokens<4>[T, 64]");
  CHECK(input_type("layers.0.attn.k") == "f32[T, 64]");
}

TEST_CASE("w16a16 leaves the module as it is, and its layers in the report") {
  ir::Module module = make_test_model();
  const ir::Module original = module;
  PassContext context = context_for("w16a16");
  REQUIRE(run_passes(kRtn, module, context).ok());
  CHECK(count_nodes(region_named(module, "layers.0"), ir::Op::kLinear) == 7);
  CHECK(tensor_bytes(module, "model.layers.0.q_proj.weight") ==
        tensor_bytes(original, "model.layers.0.q_proj.weight"));
  REQUIRE(context.report.layers.size() == 14);
  CHECK(context.report.layers[0].encoding == "bf16");
  CHECK(context.report.layers[0].packed_bytes == kHeads * kHeadDim * kHidden * 2);
}

TEST_CASE("the report has a layer's scheme, shape, weight quality and clips") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8-kv8");
  REQUIRE(run_passes(kRtn, module, context).ok());
  REQUIRE(context.report.layers.size() == 14);
  const quant::LayerReport* plain = context.find_layer_report("layers.0.mlp.down");
  REQUIRE(plain != nullptr);
  CHECK(plain->scheme == "w4a8");
  CHECK(plain->n == kHidden);
  CHECK(plain->k == kFfn);
  CHECK(plain->weight.sqnr_db > 15);
  CHECK(plain->weight.sqnr_db < 30);
  CHECK(plain->weight.cosine > 0.99);
  CHECK(plain->clip_low == 1);

  ir::Module clipped_module = make_test_model();
  PassContext clipped = context_for("w2a8");
  PassContext unclipped = context_for("w2a8");
  clipped.recipe.clip_search = true;
  ir::Module unclipped_module = make_test_model();
  REQUIRE(run_passes(kRtn, clipped_module, clipped).ok());
  REQUIRE(run_passes(kRtn, unclipped_module, unclipped).ok());
  CHECK(clipped.report.layers[0].clip_high < 1);
  CHECK(clipped.report.layers[0].clip_high >= 0.35);
  CHECK(clipped.report.layers[0].weight.sqnr_db > unclipped.report.layers[0].weight.sqnr_db);
}

TEST_CASE("a NaN weight is refused, naming layer, tensor and place, at any width") {
  for (const char* scheme : {"w4a8", "w16a16"}) {
    CAPTURE(scheme);
    ir::Module module = make_test_model();
    std::vector<float> values(static_cast<size_t>(kHidden) + 3, 0.25f);
    values.back() = std::numeric_limits<float>::quiet_NaN();
    put_float(module, "layers.1", "layers.1.mlp.up", "model.layers.1.up_proj.weight", values);
    PassContext context = context_for(scheme);
    const Status status = run_passes(kRtn, module, context);
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(status.message() ==
          "pass quantize on layers.1: layers.1.mlp.up: model.layers.1.up_proj.weight: row 1, "
          "column 2 is nan; expected finite weights");
  }
}

TEST_CASE("quantize without schemes says which pass is missing") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8");
  CHECK(run_passes({"quantize"}, module, context).message() ==
        "pass quantize on layers.0: layers.0.attn.q: has no scheme; run assign-schemes before "
        "quantize");
}

TEST_CASE("any number of threads gives the same bytes") {
  const auto all_bytes = [](int threads) {
    set_num_threads(threads);
    ir::Module module = make_test_model();
    PassContext context = context_for("w2ba8-g32");
    context.recipe.clip_search = true;
    context.calibration_windows = make_windows(2, 16);
    REQUIRE(run_passes({"assign-schemes", "balance-bits", "calibrate", "smooth", "quantize",
                        "pack-weights"},
                       module, context)
                .ok());
    std::vector<std::byte> bytes;
    for (const auto& [name, tensor] : module.tensors)
      bytes.insert(bytes.end(), tensor.data.bytes().begin(), tensor.data.bytes().end());
    return bytes;
  };
  const std::vector<std::byte> one = all_bytes(1);
  CHECK(all_bytes(3) == one);
  CHECK(all_bytes(0) == one);
  set_num_threads(0);
}

}  // namespace abq::passes::testing
