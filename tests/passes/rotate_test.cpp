#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "support/float16.h"
#include "test_model.h"

namespace abq::passes::testing {
namespace {

int count(const ir::Module& module, ir::Op op) {
  int found = 0;
  for (const ir::Region& region : module.regions)
    found += static_cast<int>(std::count_if(region.nodes.begin(), region.nodes.end(),
                                            [op](const ir::Node& node) { return node.op == op; }));
  return found;
}

// Attention at its float widths again, so that only the rotation is compared.
void widen_attention(ir::Module& module) {
  for (ir::Region& region : module.regions) {
    for (ir::Node& node : region.nodes) {
      if (node.op != ir::Op::kAttention) continue;
      node.attributes["query_bits"] = int64_t{16};
      node.attributes["kv_bits"] = int64_t{16};
    }
  }
}

struct Rotated {
  ir::Module before = make_test_model();
  ir::Module after = make_test_model();
  PassContext context = context_for("w4a4-kv4-q4");

  explicit Rotated(const quant::RotationSettings& settings = {}, uint64_t seed = 1) {
    context.recipe.rotation = settings;
    context.recipe.seed = seed;
    const Status status = run_passes({"assign-schemes", "rotate"}, after, context);
    REQUIRE_MESSAGE(status.ok(), status.message());
  }
  double float_difference() {
    widen_attention(after);
    const std::vector<int32_t> tokens = make_windows(1, 24, 99)[0];
    const ir::Interpreter interpreter;
    return relative_difference(*interpreter.logits(after, tokens),
                               *interpreter.logits(before, tokens));
  }
};

// Some fifteen roundings of weights and activations on the way, each 2^-24 of a vector's length,
// against logits that are sums of 64 products.
constexpr double kTolerance = 2e-5;

}  // namespace

TEST_CASE("rotate leaves the float function as it was, whatever is turned") {
  using Kind = quant::ResidualRotation;
  for (const Kind residual : {Kind::kHadamard, Kind::kOrthogonal, Kind::kNone}) {
    for (int parts = 0; parts < 8; ++parts) {
      CAPTURE(static_cast<int>(residual));
      CAPTURE(parts);
      Rotated model({.residual = residual,
                     .value_output = (parts & 1) != 0,
                     .query_key = (parts & 2) != 0,
                     .down = (parts & 4) != 0,
                     .half_tables = false});
      CHECK(model.float_difference() < kTolerance);
      const int online = ((parts & 2) != 0 ? 2 : 0) + ((parts & 4) != 0 ? 1 : 0);
      CHECK(count(model.after, ir::Op::kHadamard) == kLayers * online);
      CHECK(model.context.report.rotation->query_key == ((parts & 2) != 0 ? kHeadDim : 0));
      CHECK(model.context.report.rotation->value_output == ((parts & 1) != 0 ? kHeadDim : 0));
      CHECK(model.context.report.rotation->down == ((parts & 4) != 0 ? kFfn : 0));
    }
  }
}

TEST_CASE("rotate changes every weight of readers and writers, and leaves ones in the norms") {
  const Rotated model({.half_tables = false});
  for (const char* name :
       {"model.embed_tokens.weight", "model.layers.0.q_proj.weight", "model.layers.0.k_proj.weight",
        "model.layers.0.v_proj.weight", "model.layers.0.o_proj.weight",
        "model.layers.1.gate_proj.weight", "model.layers.1.up_proj.weight",
        "model.layers.1.down_proj.weight", "lm_head.weight"}) {
    CAPTURE(name);
    const ir::Tensor& tensor = model.after.tensors.at(name);
    CHECK(tensor.type.element == ir::ElementType::kF32);
    CHECK(*ir::to_float(tensor) != *ir::to_float(model.before.tensors.at(name)));
  }
  for (const char* name : {"model.layers.0.input_layernorm.weight", "model.norm.weight"}) {
    const std::vector<float> norm = *ir::to_float(model.after.tensors.at(name));
    CHECK(std::all_of(norm.begin(), norm.end(), [](float v) { return v == 1.0f; }));
  }
}

TEST_CASE("embedding and head of 16 bits become float16, which costs its rounding alone") {
  Rotated model;
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"}) {
    CAPTURE(name);
    CHECK(model.after.tensors.at(name).type.element == ir::ElementType::kF16);
  }
  CHECK(model.after.tensors.at("model.layers.0.q_proj.weight").type.element ==
        ir::ElementType::kF32);
  CHECK(model.context.report.notes.empty());
  // Half a unit of 11 bits in each of two tables, by which a logit moves at most a few times.
  const double difference = model.float_difference();
  CHECK(difference < 4 * 0x1p-11);
  CHECK(difference > kTolerance);
}

TEST_CASE("float32 tables, and tables beyond float16, stay float32") {
  for (const float factor : {1.0f, 1e8f}) {
    CAPTURE(factor);
    ir::Module module = make_test_model();
    ir::Tensor& head = module.tensors.at("lm_head.weight");
    std::vector<float> values = *ir::to_float(head);
    for (float& value : values)
      value *= factor;
    if (factor == 1.0f) {
      head = ir::make_f32_tensor(head.type.shape, values);
      for (ir::Node& node : region_named(module, "head").nodes)
        if (node.op == ir::Op::kWeight && node.string_attribute("tensor") == "lm_head.weight")
          region_named(module, "head").values[static_cast<size_t>(node.result)].type.element =
              ir::ElementType::kF32;
    } else {
      std::vector<uint16_t> halves(values.size());
      std::transform(values.begin(), values.end(), halves.begin(), float_to_bf16);
      head.data = ir::TensorData::from_vector(halves);
    }
    PassContext context = context_for("w4a8");
    REQUIRE(run_passes({"assign-schemes", "rotate"}, module, context).ok());
    CHECK(module.tensors.at("lm_head.weight").type.element == ir::ElementType::kF32);
    CHECK(module.tensors.at("model.embed_tokens.weight").type.element == ir::ElementType::kF16);
    REQUIRE(context.report.notes.size() == (factor == 1.0f ? 0 : 1));
    if (factor != 1.0f)
      CHECK(context.report.notes[0] ==
            "rotation: lm_head.weight has values beyond float16 and is stored as float32");
  }
}

TEST_CASE("transforms stand after RoPE and before down projections") {
  const Rotated model;
  const ir::Region& block = region_named(model.after, "layers.1");
  const auto producer = [&](const std::string& name, size_t operand) -> const ir::Node& {
    return block
        .nodes[static_cast<size_t>(block.producer(node_named(block, name).operands[operand]))];
  };
  CHECK(producer("layers.1.attn", 0).name == "layers.1.attn.q_rope.hadamard");
  CHECK(producer("layers.1.attn", 1).name == "layers.1.attn.k_rope.hadamard");
  CHECK(producer("layers.1.attn", 2).name == "layers.1.attn.v");
  CHECK(producer("layers.1.mlp.down", 0).name == "layers.1.mlp.act.hadamard");
  CHECK(producer("layers.1.mlp.act.hadamard", 0).name == "layers.1.mlp.act");
  CHECK(producer("layers.1.attn.q_rope.hadamard", 0).name == "layers.1.attn.q_rope");
}

TEST_CASE("inputs of down projections are turned in segments of the recipe's size") {
  Rotated model({.down_size = 32, .half_tables = false});
  CHECK(model.context.report.rotation->down == 32);
  CHECK(model.float_difference() < kTolerance);
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a4");
  context.recipe.rotation = quant::RotationSettings{.down_size = 64};
  const Status status = run_passes({"assign-schemes", "rotate"}, module, context);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message().find(
            "layers.0.mlp.act: its 96 channels are not segments of "
            "\"down_size\": 64 with a Hadamard matrix; leave it out, or give 96 for the widest") !=
        std::string::npos);
}

TEST_CASE("queries and keys of 16 bits are left alone") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8");
  REQUIRE(run_passes({"assign-schemes", "rotate"}, module, context).ok());
  CHECK(count(module, ir::Op::kHadamard) == kLayers);
  CHECK(context.report.rotation->query_key == 0);
}

TEST_CASE("the seed decides the rotation, and the report names it") {
  const auto table = [](const Rotated& model) {
    return *ir::to_float(model.after.tensors.at("model.embed_tokens.weight"));
  };
  const Rotated one({}, 1), again({}, 1), two({}, 2);
  CHECK(table(one) == table(again));
  CHECK(table(one) != table(two));
  REQUIRE(two.context.report.rotation);
  CHECK(two.context.report.rotation->seed == 2);
  CHECK(two.context.report.rotation->width == kHidden);
  CHECK(two.context.report.rotation->residual == "hadamard 1 x 64 with random signs");
}

TEST_CASE("tied embeddings become two tensors, and the report says so") {
  ir::Module module = make_test_model();
  module.attributes["tie_embeddings"] = int64_t{1};
  for (ir::Node& node : region_named(module, "head").nodes)
    if (node.op == ir::Op::kWeight && node.string_attribute("tensor") == "lm_head.weight")
      node.attributes["tensor"] = std::string("model.embed_tokens.weight");
  const std::vector<int32_t> tokens = make_windows(1, 24, 99)[0];
  const ir::Matrix before = *ir::Interpreter().logits(module, tokens);
  PassContext context = context_for("w4a8");
  context.recipe.rotation = quant::RotationSettings{.half_tables = false};
  REQUIRE(run_passes({"assign-schemes", "rotate"}, module, context).ok());
  CHECK(relative_difference(*ir::Interpreter().logits(module, tokens), before) < kTolerance);
  CHECK(module.int_attribute("tie_embeddings") == 0);
  REQUIRE(context.report.notes.size() == 1);
  CHECK(context.report.notes[0].find("embedding and head were one tensor") != std::string::npos);
}

TEST_CASE("an outlier channel spreads over all channels") {
  ir::Module module = make_test_model();
  // One channel of the residual stream fifty times as large as the others.
  std::vector<float> table = *ir::to_float(module.tensors.at("model.embed_tokens.weight"));
  for (size_t i = 3; i < table.size(); i += static_cast<size_t>(kHidden))
    table[i] *= 50.0f;
  ir::Region& embed = region_named(module, "embed");
  module.replace_weight(embed, node_named(embed, "embed").operands[1],
                        ir::make_f32_tensor({kVocab, kHidden}, table));
  const auto peak = [](const ir::Module& m) {
    const ir::Matrix x = *ir::Interpreter().embed(m, std::vector<int32_t>{7});
    float largest = 0, squares = 0;
    for (const float v : x.data) {
      largest = std::max(largest, std::fabs(v));
      squares += v * v;
    }
    return largest / std::sqrt(squares / static_cast<float>(x.data.size()));
  };
  const float before = peak(module);
  PassContext context = context_for("w4a4");
  REQUIRE(run_passes({"assign-schemes", "rotate"}, module, context).ok());
  CHECK(before > 5.0f);
  CHECK(peak(module) < 0.5f * before);
}

TEST_CASE("what cannot be rotated is refused before anything changes") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8");
  ir::Region& block = region_named(module, "layers.1");
  SUBCASE("another use of the residual stream") {
    const ir::ValueId x = block.arguments[0];
    ir::Builder(module, block).silu_mul("layers.1.gated", x, x);
    const Status status = run_passes({"rotate"}, module, context);
    CHECK(status.code() == StatusCode::kUnsupported);
    CHECK(status.message().find("pass rotate on embed: layers.1.gated: silu_mul reads the residual "
                                "stream") == 0);
  }
  SUBCASE("values that are read twice") {
    const ir::ValueId v = node_named(block, "layers.1.attn.v").result;
    ir::Builder(module, block).add("layers.1.more", v, v);
    CHECK(run_passes({"rotate"}, module, context).message().find("\"value_output\": false") !=
          std::string::npos);
    ir::Module again = module;
    context.recipe.rotation = quant::RotationSettings{.value_output = false};
    CHECK(run_passes({"rotate"}, again, context).ok());
  }
  SUBCASE("a product that is read twice") {
    const ir::ValueId act = node_named(block, "layers.1.mlp.act").result;
    ir::Builder(module, block).add("layers.1.more", act, act);
    CHECK(run_passes({"rotate"}, module, context).message().find("\"down\": false") !=
          std::string::npos);
  }
  CHECK(module.tensors.at("model.embed_tokens.weight").type.element == ir::ElementType::kBF16);
}

TEST_CASE("every method works on a rotated model") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a4-kv4-q4");
  context.recipe.rotation = quant::RotationSettings{};
  context.calibration_windows = make_windows(4, 16);
  const Status status =
      run_passes({"assign-schemes", "balance-bits", "rotate", "calibrate", "smooth", "quantize",
                  "replay-quantized", "measure-outputs", "pack-weights"},
                 module, context);
  REQUIRE_MESSAGE(status.ok(), status.message());
  CHECK(context.report.layers.size() == 7 * kLayers);
  const std::vector<int32_t> tokens = make_windows(1, 24, 99)[0];
  const ir::Matrix quantized = *ir::Interpreter().logits(module, tokens);
  CHECK(relative_difference(quantized, *ir::Interpreter().logits(make_test_model(), tokens)) < 0.5);
}

TEST_CASE("distribution correction learns on a rotated model, compensation included") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w2ba8-kv8-q8");
  context.recipe.method = "abq";
  context.recipe.rotation = quant::RotationSettings{};
  context.recipe.correction.epochs = 6;
  context.recipe.correction.batch = 2;
  context.recipe.correction.clip_start = quant::ClipStart::kSearch;
  context.calibration_windows = make_windows(6, 10);
  const Status status =
      run_passes({"assign-schemes", "balance-bits", "rotate", "calibrate", "correct-distribution",
                  "quantize", "replay-quantized", "pack-weights"},
                 module, context);
  REQUIRE_MESSAGE(status.ok(), status.message());
  REQUIRE(context.report.blocks.size() == static_cast<size_t>(kLayers));
  for (const quant::BlockReport& block : context.report.blocks) {
    CAPTURE(block.name);
    CHECK(block.learned_kept);
    CHECK(block.learned.total < block.rounding.total);
    CHECK(block.compensation_norm > 0);
    // norm -> linears twice, and v -> o: no scale folds through a transform.
    CHECK(block.scales.size() == 3);
  }
}

}  // namespace abq::passes::testing
