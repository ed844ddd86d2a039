#include <doctest/doctest.h>

#include <filesystem>

#include "passes/gptq_rounding.h"
#include "passes/layers.h"
#include "support/parallel.h"
#include "test_model.h"

namespace abq::passes::testing {
namespace {

const std::vector<std::string> kGptq = {"assign-schemes", "balance-bits", "calibrate",
                                        "gptq",           "quantize",     "replay-quantized"};

std::vector<uint8_t> stored_codes(const ir::Module& module, const std::string& tensor) {
  std::vector<uint8_t> codes;
  for (const std::byte b : module.tensors.at(tensor + ".codes").data.bytes())
    codes.push_back(std::to_integer<uint8_t>(b));
  return codes;
}

std::vector<std::byte> bytes_of(const ir::Module& module) {
  std::vector<std::byte> bytes;
  for (const auto& [name, tensor] : module.tensors)
    bytes.insert(bytes.end(), tensor.data.bytes().begin(), tensor.data.bytes().end());
  return bytes;
}

PassContext calibrated_context(const std::string& scheme) {
  PassContext context = context_for(scheme);
  context.calibration_windows = make_windows(6, 40);
  return context;
}

// What bit_linear `layer` of the quantized first block multiplies, by the interpreter: 2 X^T X over
// the tokens.
std::vector<double> hessian_behind(const ir::Module& module, const PassContext& context,
                                   const std::string& layer, int64_t k) {
  const ir::Interpreter embedder;
  std::vector<double> hessian(static_cast<size_t>(k * k));
  ir::Interpreter interpreter;
  interpreter.observe_inputs([&](const ir::Node& node, const ir::Matrix& x) {
    if (node.name != layer) return;
    const auto columns = static_cast<size_t>(x.cols);
    for (size_t t = 0; t < static_cast<size_t>(x.rows); ++t)
      for (size_t i = 0; i < columns; ++i)
        for (size_t j = 0; j < columns; ++j)
          hessian[i * columns + j] += 2.0 * static_cast<double>(x.data[t * columns + i]) *
                                      static_cast<double>(x.data[t * columns + j]);
  });
  double tokens = 0;
  for (const std::vector<int32_t>& window : context.calibration_windows) {
    const ir::Matrix x = *embedder.embed(module, window);
    REQUIRE(interpreter.run(module, region_named(module, "layers.0"), x).ok());
    tokens += static_cast<double>(window.size());
  }
  for (double& h : hessian)
    h /= tokens;
  return hessian;
}

}  // namespace

// The block as it was stored gives every linear its input behind the quantized ones before it. The
// interpreter multiplies integers where the pass multiplies floats, so that some value near a tie
// may round otherwise and carry a few codes of its row along.
TEST_CASE("each linear is rounded for the inputs that the quantized linears before it leave") {
  struct Row {
    const char* layer;
    const char* tensor;
    int64_t n;
    int64_t k;
  };
  for (const char* scheme : {"w4a8-kv8-q8", "w3a16", "w4a8-g32"}) {
    CAPTURE(std::string(scheme));
    ir::Module module = make_test_model();
    const ir::Module original = module;
    PassContext context = calibrated_context(scheme);
    REQUIRE(run_passes(kGptq, module, context).ok());
    for (const Row& row :
         {Row{"layers.0.attn.v", "model.layers.0.v_proj.weight", kKvHeads * kHeadDim, kHidden},
          Row{"layers.0.attn.o", "model.layers.0.o_proj.weight", kHidden, kHeads * kHeadDim},
          Row{"layers.0.mlp.up", "model.layers.0.up_proj.weight", kFfn, kHidden},
          Row{"layers.0.mlp.down", "model.layers.0.down_proj.weight", kHidden, kFfn}}) {
      CAPTURE(std::string(row.layer));
      const auto rounder = context.tensors().create_rounder(row.k);
      rounder->add_products(hessian_behind(module, context, row.layer, row.k), 2);
      const std::vector<float> w = *ir::to_float(original.tensors.at(row.tensor));
      const RoundedLayer expected = *round_layer(*rounder, {w.data(), row.n, row.k},
                                                 context.layer_schemes.at(row.layer).weights);
      const std::vector<uint8_t> codes = stored_codes(module, row.tensor);
      REQUIRE(codes.size() == expected.weights.codes.size());
      int64_t different = 0;
      for (size_t i = 0; i < codes.size(); ++i)
        different += codes[i] == expected.weights.codes[i] ? 0 : 1;
      CHECK(different * 100 <= row.n * row.k);
      const quant::LayerReport* report = context.find_layer_report(row.layer);
      REQUIRE(report != nullptr);
      REQUIRE(report->rounding.has_value());
      CHECK(report->rounding->loss == doctest::Approx(expected.report.loss).epsilon(0.01));
      CHECK(report->rounding->loss < report->rounding->nearest_loss);
      CHECK(report->clip_high < 1);
    }
  }
}

// Stands before replay-quantized: keeps the block's input, and drops the outputs of gptq or not.
struct WatchStream : BlockPass {
  WatchStream(std::vector<float>& values, bool drop) : input(values), drop_outputs(drop) {}
  Status run(ir::Module&, ir::Block&, PassContext& context) override {
    const Stream& stream = context.quantized_stream;
    if (!stream.empty()) {
      input.resize(static_cast<size_t>(stream.windows() * stream.context() * stream.hidden()));
      ABQ_RETURN_IF_ERROR(stream.read(0, stream.windows(), input));
    } else {
      CHECK(!context.quantized_outputs.empty());  // the first block
    }
    if (drop_outputs) context.quantized_outputs = {};
    return {};
  }
  std::vector<float>& input;
  bool drop_outputs;
};

TEST_CASE("gptq leaves the next block the stream that running the quantized block gives") {
  for (const char* scheme : {"w4a8-kv8-q8", "w3a16"}) {
    CAPTURE(std::string(scheme));
    const auto stream_behind = [&](bool drop) {
      ir::Module module = make_test_model();
      PassContext context = calibrated_context(scheme);
      std::vector<float> input;
      PassManager manager({});
      for (const char* pass : {"assign-schemes", "balance-bits", "calibrate", "gptq", "quantize"})
        REQUIRE(manager.add(pass).ok());
      manager.add("watch-stream", std::make_unique<WatchStream>(input, drop));
      REQUIRE(manager.add("replay-quantized").ok());
      REQUIRE(manager.run(module, context).ok());
      return input;
    };
    const std::vector<float> kept = stream_behind(false);
    CHECK(!kept.empty());
    CHECK(kept == stream_behind(true));
  }
}

TEST_CASE("gptq chooses the same codes where memory is too short to keep windows within a block") {
  const auto all_bytes = [](const std::string& spill_folder) {
    ir::Module module = make_test_model();
    PassContext context = calibrated_context("w3a8-kv8-q8");
    context.stream_options.spill_folder = spill_folder;
    REQUIRE(run_passes(kGptq, module, context).ok());
    return bytes_of(module);
  };
  CHECK(all_bytes({}) == all_bytes(std::filesystem::temp_directory_path().string()));
}

TEST_CASE("gptq chooses the same codes when the float blocks run on a few windows") {
  const auto all_bytes = [](int64_t float_windows) {
    ir::Module module = make_test_model();
    PassContext context = calibrated_context("w3a8-kv8-q8");
    context.float_windows = float_windows;
    REQUIRE(run_passes(kGptq, module, context).ok());
    CHECK(context.report.calibration_tokens == 6 * 40);
    return bytes_of(module);
  };
  CHECK(all_bytes(0) == all_bytes(2));
}

TEST_CASE("gptq leaves linears without codes alone, and takes an input at two widths twice") {
  ir::Module module = make_test_model();
  PassContext context = calibrated_context("w4a8");
  context.recipe.overrides = {{"*.attn.v", *quant::parse_scheme("w4a4")},
                              {"*.mlp.gate", *quant::parse_scheme("w16a16")}};
  REQUIRE(run_passes(kGptq, module, context).ok());
  CHECK(!context.find_layer_report("layers.1.mlp.gate")->rounding);
  CHECK(module.tensors.contains("model.layers.1.gate_proj.weight"));
  CHECK(context.find_layer_report("layers.1.attn.v")->rounding);
  CHECK(context.find_layer_report("layers.1.mlp.up")->rounding);
  CHECK(context.rounded_layers.empty());
}

TEST_CASE("gptq without a stream or schemes says which pass is missing") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8");
  CHECK(run_passes({"assign-schemes", "gptq"}, module, context).message() ==
        "pass gptq on layers.0: gptq needs a stream; run calibrate before");
  PassContext calibrated = calibrated_context("w4a8");
  CHECK(run_passes({"calibrate", "gptq"}, module, calibrated).message() ==
        "pass gptq on layers.0: layers.0.attn.q: has no scheme; run assign-schemes before");
}

TEST_CASE("gptq gives the same bytes on any number of threads") {
  const auto all_bytes = [](int threads) {
    set_num_threads(threads);
    ir::Module module = make_test_model();
    PassContext context = calibrated_context("w2ba8-kv8-q8");
    REQUIRE(run_passes(kGptq, module, context).ok());
    return bytes_of(module);
  };
  const std::vector<std::byte> one = all_bytes(1);
  CHECK(all_bytes(3) == one);
  set_num_threads(0);
}

}  // namespace abq::passes::testing
