#include <doctest/doctest.h>

#include "quant/packed_layout.h"
#include "test_model.h"

namespace abq::passes::testing {
namespace {

void quantize(ir::Module& module, PassContext& context) {
  REQUIRE(run_passes({"assign-schemes", "balance-bits", "quantize"}, module, context).ok());
}

}  // namespace

TEST_CASE("packed rows unpack to the codes that quantize stored") {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"w4a8", "planes"}, {"w2ba8", "base5"}, {"w1ba8", "base3"}, {"w1a8", "planes"}};
  for (const auto& [scheme, encoding] : rows) {
    CAPTURE(scheme);
    ir::Module module = make_test_model();
    PassContext context = context_for(scheme);
    quantize(module, context);
    const std::string name = "model.layers.1.down_proj.weight.codes";
    const auto stored = module.tensors.at(name).data.bytes();
    std::vector<uint8_t> codes;
    for (std::byte code : stored)
      codes.push_back(std::to_integer<uint8_t>(code));

    REQUIRE(run_passes({"pack-weights"}, module, context).ok());
    const auto layout = quant::PackedLayout::for_weights(
        context.layer_schemes.at("layers.1.mlp.down").weights, kHidden, kFfn);
    const auto packed = module.tensors.at(name).data.bytes();
    REQUIRE(static_cast<int64_t>(packed.size()) == layout.total_bytes());
    std::vector<uint8_t> row(static_cast<size_t>(kFfn));
    for (size_t n = 0; n < static_cast<size_t>(kHidden); ++n) {
      const auto row_bytes = static_cast<size_t>(layout.row_bytes());
      REQUIRE(quant::unpack_row(layout, packed.subspan(n * row_bytes, row_bytes), row).ok());
      CHECK(std::equal(row.begin(), row.end(), codes.begin() + static_cast<int64_t>(n) * kFfn));
    }
    const quant::LayerReport* report = context.find_layer_report("layers.1.mlp.down");
    CHECK(report->encoding == encoding);
    CHECK(report->packed_bytes == layout.total_bytes());
    CHECK(report->parameter_bytes == kHidden * 5);  // one f32 scale and one u8 zero a row
  }
}

TEST_CASE("packing does not change what the model computes") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w2ba8-kv8");
  quantize(module, context);
  const ir::Interpreter interpreter;
  const std::vector<int32_t> tokens = make_windows(1, 10)[0];
  const ir::Matrix before = *interpreter.logits(module, tokens);
  REQUIRE(run_passes({"pack-weights"}, module, context).ok());
  const Result<ir::Matrix> after = interpreter.logits(module, tokens);
  REQUIRE(after.ok());
  CHECK(after->data == before.data);
}

TEST_CASE("codes without data are refused, naming layer and tensor") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8");
  quantize(module, context);
  module.tensors.at("model.layers.0.q_proj.weight.codes").data = {};
  CHECK(
      run_passes({"pack-weights"}, module, context).message() ==
      "pass pack-weights on layers.0: layers.0.attn.q: model.layers.0.q_proj.weight.codes: has no "
      "data to pack");
}

TEST_CASE("packing twice packs once") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8");
  quantize(module, context);
  CHECK(run_passes({"pack-weights", "pack-weights"}, module, context).ok());
}

}  // namespace abq::passes::testing
