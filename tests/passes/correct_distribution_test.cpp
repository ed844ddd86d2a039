#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "passes/autodiff/block_evaluator.h"
#include "passes/passes.h"
#include "test_model.h"

namespace abq::passes::testing {
namespace {

// Keeps learned blocks in memory, and counts.
class MemoryStore : public LearnedBlockStore {
 public:
  Result<std::optional<LearnedBlock>> load(const std::string& block) override {
    const auto found = blocks.find(block);
    if (found == blocks.end()) return std::optional<LearnedBlock>();
    ++loads;
    return std::optional<LearnedBlock>(found->second);
  }
  Status save(const std::string& block, const LearnedBlock& learned) override {
    blocks[block] = learned;
    ++saves;
    return {};
  }

  std::map<std::string, LearnedBlock> blocks;
  int loads = 0;
  int saves = 0;
};

PassContext abq_context(const std::string& scheme) {
  PassContext context = context_for(scheme);
  context.recipe.method = "abq";
  context.recipe.correction.epochs = 6;
  context.recipe.correction.batch = 2;
  context.recipe.correction.clip_start = quant::ClipStart::kSearch;
  context.calibration_windows = make_windows(6, 10);
  return context;
}

ir::Module corrected(PassContext& context) {
  ir::Module module = make_test_model();
  std::vector<std::string> names;
  const std::vector<PipelineStep> pipeline = *pipeline_for(context.recipe, true);
  for (const PipelineStep& step : pipeline)
    names.emplace_back(step.pass);
  const Status status = run_passes(names, module, context);
  REQUIRE_MESSAGE(status.ok(), status.message());
  return module;
}

std::vector<std::byte> codes_of(const ir::Module& module, const std::string& tensor) {
  const auto bytes = module.tensors.at(tensor).data.bytes();
  return {bytes.begin(), bytes.end()};
}

const std::string kDownCodes = "model.layers.1.down_proj.weight.codes";

}  // namespace

TEST_CASE("each block ends with a lower loss than plain rounding, and the report tells") {
  PassContext context = abq_context("w2ba8");
  corrected(context);
  REQUIRE(context.report.blocks.size() == 2);
  for (const quant::BlockReport& block : context.report.blocks) {
    CAPTURE(block.name);
    CHECK(block.learned_kept);
    CHECK(block.learned.total < block.rounding.total);
    CHECK(block.attention_divergence_before > 0);
    CHECK(block.attention_divergence_after > 0);
    CHECK(block.epochs.size() == 6);
    REQUIRE(block.scales.size() == 5);
    CHECK(block.scales[0].min < block.scales[0].median);
    CHECK(block.compensation_norm > 0);
    CHECK(block.events.empty());
  }
  const quant::BlockReport& first = context.report.blocks[0];
  CHECK(first.attention_divergence_after < first.attention_divergence_before);
}

TEST_CASE("the second block learns behind the first one as it is deployed") {
  PassContext context = abq_context("w2ba8-kv4-q4");
  ir::Module module = make_test_model();
  // Without the manager, which would let go of the streams.
  REQUIRE(run_passes({"assign-schemes", "balance-bits"}, module, context).ok());
  ir::Region& block = region_named(module, "layers.0");
  for (const char* name : {"calibrate", "correct-distribution", "quantize", "replay-quantized"})
    REQUIRE(dynamic_cast<BlockPass&>(**create_pass(name)).run(module, block, context).ok());
  const ir::Interpreter interpreter;
  const ir::Matrix x = *interpreter.embed(module, context.calibration_windows[2]);
  const ir::Matrix expected = *interpreter.run(module, block, x);
  ir::Matrix replayed = ir::make_matrix(expected.rows, expected.cols);
  REQUIRE(context.quantized_stream.read(2, 1, replayed.data).ok());
  // A code of an activation may move by one step where float sums round another way.
  CHECK(relative_difference(replayed, expected) < 2e-2);
  ir::Matrix float_output = ir::make_matrix(expected.rows, expected.cols);
  REQUIRE(context.float_outputs.read(2, 1, float_output.data).ok());
  CHECK(relative_difference(float_output, expected) > 5e-2);
}

TEST_CASE("a block that learns nothing better is rounded plainly, as clip search would have it") {
  PassContext context = abq_context("w2ba8");
  // Full ranges at 2 bits, and rates that never leave them.
  context.recipe.correction.epochs = 1;
  context.recipe.correction.clip_start = quant::ClipStart::kWide;
  context.recipe.correction.scale_rate = context.recipe.correction.clip_rate = 1e-9;
  context.recipe.correction.compensation_rate = 1e-9;
  const ir::Module module = corrected(context);
  for (const quant::BlockReport& block : context.report.blocks) {
    CHECK(!block.learned_kept);
    REQUIRE(!block.events.empty());
    CHECK(block.events.back().find("rounded plainly") != std::string::npos);
  }
  PassContext plain = abq_context("w2ba8");
  plain.recipe.method = "rtn";
  plain.recipe.clip_search = true;
  const ir::Module rounded = corrected(plain);
  for (const char* weight : {"layers.0.q_proj", "layers.1.down_proj"}) {
    CAPTURE(std::string(weight));
    const std::string codes = std::string("model.") + weight + ".weight.codes";
    CHECK(codes_of(module, codes) == codes_of(rounded, codes));
  }
}

TEST_CASE("a batch larger than the windows there are is all of them, one window is enough") {
  PassContext context = abq_context("w4a8");
  context.calibration_windows = make_windows(1, 10);
  context.recipe.correction.batch = 100;
  corrected(context);
  CHECK(context.report.blocks[0].micro_batch == 1);
  CHECK(context.report.blocks[0].epochs.size() == 6);
  for (const std::string& note : context.report.notes)
    CHECK(note.find("memory") == std::string::npos);
}

TEST_CASE("little memory splits batches, is noted once, and holds for all blocks") {
  PassContext context = abq_context("w4a8");
  context.learning_memory = 1;
  corrected(context);
  CHECK(context.report.blocks[0].micro_batch == 1);
  CHECK(context.report.blocks[1].micro_batch == 1);
  CHECK(std::count(context.report.notes.begin(), context.report.notes.end(),
                   "memory: 1 of 2 windows of a batch at a time, gradients added up") == 1);
}

TEST_CASE("layers of other widths, and of none, learn side by side") {
  PassContext context = abq_context("w4a8");
  context.recipe.overrides = {{"layers.*.attn.k", *quant::parse_scheme("w2a4")},
                              {"layers.0.mlp.down", *quant::parse_scheme("w16a16")}};
  corrected(context);
  CHECK(context.report.blocks[0].learned.total < context.report.blocks[0].rounding.total);
  CHECK(context.report.blocks[0].compensation_norm == 0);
  CHECK(context.report.blocks[1].compensation_norm > 0);
}

TEST_CASE("what the work folder knows is not learned again, and gives the same bytes") {
  MemoryStore store;
  PassContext first = abq_context("w2ba8");
  first.learned_blocks = &store;
  const ir::Module once = corrected(first);
  CHECK(store.saves == 2);
  CHECK(store.loads == 0);

  store.blocks.erase("layers.1");  // stopped after the first block
  PassContext second = abq_context("w2ba8");
  second.learned_blocks = &store;
  const ir::Module twice = corrected(second);
  CHECK(store.loads == 1);
  CHECK(store.saves == 3);
  CHECK(codes_of(once, kDownCodes) == codes_of(twice, kDownCodes));
  CHECK(second.report.blocks[0].epochs.size() == first.report.blocks[0].epochs.size());
  CHECK(second.report.blocks[1].learned.total == first.report.blocks[1].learned.total);
}

TEST_CASE("without scales, clips and compensation nothing is learned and rounding stays plain") {
  PassContext context = abq_context("w4a8");
  context.recipe.correction.scales = false;
  context.recipe.correction.clips = false;
  context.recipe.correction.compensation = quant::CompensationBlocks::kNone;
  corrected(context);
  CHECK(context.report.blocks[0].epochs.empty());
  CHECK(context.report.blocks[0].scales.empty());
  CHECK(!context.report.blocks[0].learned_kept);  // and clip search is better than nothing
}

TEST_CASE("progress names epoch, loss and its parts, and ends at the whole block") {
  PassContext context = abq_context("w3a8");
  std::string last;
  double fraction = 0;
  context.detail_progress = [&](std::string_view detail, double part) {
    last = detail;
    fraction = part;
  };
  corrected(context);
  CHECK(last.starts_with("epoch 6/6, loss 0."));
  CHECK(last.find("(dlc 0.") != std::string::npos);
  CHECK(last.find(", akl ") != std::string::npos);
  CHECK(fraction == 1);
}

TEST_CASE("correct-distribution without calibrate is refused with what to run") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a4");
  const Status status =
      run_passes({"assign-schemes", "balance-bits", "correct-distribution"}, module, context);
  CHECK(status.message().find("needs the float block's outputs; run calibrate before") !=
        std::string::npos);
}

}  // namespace abq::passes::testing
