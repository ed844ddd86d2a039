// Passes: IR -> IR. Three shapes, one explicit registry, one manager.
//
// A GraphPass sees shapes and attributes of the whole module. A BlockPass owns one decoder block's
// weights; the manager runs all block passes on block i, hands the block to the sink, frees it,
// then takes i + 1: that is how a 7B model streams. A ModelPass needs all blocks at once, which is
// what it costs.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "compute/device.h"
#include "compute/tensor_device.h"
#include "ir/graph.h"
#include "ir/interpreter.h"
#include "passes/gptq_rounding.h"
#include "passes/learned_blocks.h"
#include "passes/stream.h"
#include "quant/affine.h"
#include "quant/recipe.h"
#include "quant/report.h"
#include "support/status.h"

namespace abq::passes {

// Statistics of one activation tensor over the calibration tokens, per channel.
struct ChannelStatistics {
  int64_t tokens = 0;
  std::vector<float> max_abs;
  std::vector<float> min;
  std::vector<float> max;
  std::vector<double> second_moment;  // sum of squares / tokens
};

// What block passes share. Streams hold the hidden states of every calibration window between two
// blocks; the manager moves them on after each block.
struct PassContext {
  // The interpreter's math, and where passes run blocks and learn; tensors() makes a CPU device
  // when none was given.
  const compute::Device* device = &compute::cpu_device();
  std::shared_ptr<compute::TensorDevice> tensor_device;
  compute::TensorDevice& tensors();

  quant::Recipe recipe;
  // Scheme of every block linear by node name, resolved from the recipe by `assign-schemes`.
  std::map<std::string, quant::Scheme> layer_schemes;
  // Clip factors of a block linear by node name, [N, G], where a pass chose them; `quantize` uses
  // them before any of its own.
  std::map<std::string, std::vector<quant::ClipRatio>> layer_clips;
  // Codes of linears by node name, where a pass chose them; `quantize` takes them instead of
  // rounding to nearest.
  std::map<std::string, RoundedLayer> rounded_layers;
  // Norm weights by tensor name, where a pass learned them beside the codes; `quantize` takes them,
  // too. Until then the graph has the float model's.
  std::map<std::string, std::vector<float>> learned_norms;
  std::vector<std::vector<int32_t>> calibration_windows;  // token ids; empty = not calibrated
  StreamOptions stream_options;
  // Windows that the float blocks run on; 0 = all. A method that takes nothing but measurements
  // from them (gptq) needs no more than kQualityWindows: `calibrate` then leaves the embeddings of
  // all windows in the quantized stream.
  int64_t float_windows = 0;
  Stream float_stream;      // input of the current block in the float model; behind the last block,
                            // its output
  Stream float_outputs;     // its output there, by `calibrate`: the next block's float_stream
  Stream quantized_stream;  // the block's input behind quantized blocks, by `replay-quantized`;
                            // empty before that pass has run: the float stream
                            // (but for float_windows)
  // The block's output behind quantized blocks and itself quantized, where a pass before
  // `replay-quantized` has made it on the way; empty: that pass makes it.
  Stream quantized_outputs;
  // Input statistics of the current block's linears, by node name.
  std::map<std::string, ChannelStatistics> input_statistics;
  // Inputs of the current block for the first kQualityWindows windows, and the block as it was when
  // quantization began: what measure-outputs compares against.
  std::vector<ir::Matrix> quality_inputs;
  std::optional<ir::Module> float_block;  // a module with this one region
  quant::Report report;

  // Bytes that learning one block may take; 0 = what the device has free.
  int64_t learning_memory = 0;
  // Windows of a batch that go through a block at a time, chosen with the first block (or taken up
  // with it from the work folder) and kept for all, so that later blocks do not depend on what
  // memory happens to be free; 0 = not chosen yet.
  int64_t micro_batch = 0;
  // Where learned passes keep what they learned, to go on from after a stop; null = nowhere.
  LearnedBlockStore* learned_blocks = nullptr;
  // How far a long pass has come with its block: a few words, and the part done, 0 to 1.
  std::function<void(std::string_view detail, double fraction)> detail_progress;

  bool calibrated() const { return !calibration_windows.empty(); }
  // The report row of a layer; null when `quantize` has not made one.
  quant::LayerReport* find_layer_report(std::string_view name);
  // Moves the float stream on and frees what belongs to the current block alone; the manager calls
  // it after each block.
  void finish_block();
};
inline constexpr int64_t kQualityWindows = 8;

class Pass {
 public:
  virtual ~Pass() = default;
};

class GraphPass : public Pass {
 public:
  virtual Status run(ir::Module& module, PassContext& context) = 0;
};

// Sees the weights of all blocks, and stands between passes on single blocks: those before it leave
// every block as it is then, and those after it start again with the first.
class ModelPass : public Pass {
 public:
  virtual Status run(ir::Module& module, PassContext& context) = 0;
};

class BlockPass : public Pass {
 public:
  virtual Status run(ir::Module& module, ir::Block& block, PassContext& context) = 0;
  // What the pass does to what stands around the blocks, where it says that it does something: the
  // manager calls it with the embed region before the first block, and with the head region after
  // the last one.
  virtual bool has_ends() const { return false; }
  virtual Status run_end(ir::Module&, ir::Region& /*end*/, PassContext&) { return {}; }
};

// One row of the registry: everything a user or the manager knows about a pass.
struct PassInfo {
  std::string_view name;  // "pack-weights"
  std::string_view help;  // one line
  std::unique_ptr<Pass> (*create)();
};
const std::vector<PassInfo>& pass_registry();
// NotFound lists the names there are.
Result<std::unique_ptr<Pass>> create_pass(std::string_view name);

// A step of a named pipeline and why it stands there.
struct PipelineStep {
  std::string_view pass;
  std::string_view reason;
};
// Pipelines by method: "rtn", "smooth", "gptq", "abq", "best". InvalidArgument lists the methods
// there are, or says that the method needs calibration.
Result<std::vector<PipelineStep>> pipeline_for(const quant::Recipe& recipe, bool calibrated);

// Progress of a compilation: block `done` of `total`, running `pass`.
using Progress = std::function<void(int64_t done, int64_t total, std::string_view pass)>;
// Takes a finished block (writes its blobs); its tensors are freed afterwards.
using BlockSink = std::function<Status(ir::Module&, ir::Block&)>;

struct PassTiming {
  std::string pass;
  double seconds = 0;
};

class PassManager {
 public:
  struct Options {
    bool verify_each = true;
    std::string print_after;  // pass name, "all", or empty
    // Where the last good IR is written when a pass fails; empty = nowhere.
    std::string reproducer_dir;
  };

  explicit PassManager(Options options) : options_(std::move(options)) {}

  // NotFound lists the passes there are.
  Status add(std::string_view pass_name);
  // A pass that is not in the registry.
  void add(std::string name, std::unique_ptr<Pass> pass);
  // Graph passes that come before the first block pass run on the module first; then block passes
  // block by block (each verified, handed to `sink`, freed); graph passes after them run last, and
  // one between block passes is InvalidArgument, and so is a print_after that names none of them.
  // A model pass ends a round of block passes: they have run on all blocks when it runs, and blocks
  // reach the sink in the last round alone.
  // Embed and head regions go through those block passes that have something to do there; their
  // tensors are not freed. A failure carries the name of the pass and the block, and where the
  // reproducer is. Without a sink the blocks keep their tensors. The float stream is freed after
  // the last block.
  Status run(ir::Module& module, PassContext& context, const BlockSink& sink = {},
             const Progress& progress = {});
  // Wall time per pass, in pipeline order.
  const std::vector<PassTiming>& timings() const { return timings_; }

 private:
  struct Entry {
    std::string name;
    std::unique_ptr<Pass> pass;
  };

  Status check_order() const;
  Status check_print_after() const;
  // The block and model passes, round by round.
  Status run_rounds(std::span<Entry> passes, ir::Module& module, PassContext& context,
                    const BlockSink& sink, const Progress& progress);
  Status run_block_passes(std::span<Entry> passes, ir::Module& module, PassContext& context,
                          const BlockSink& sink, const Progress& progress);
  // Embed or head regions through the passes that have something to do there.
  Status run_ends(std::span<Entry> passes, ir::RegionKind kind, ir::Module& module,
                  PassContext& context);
  // `region` is null for a graph or model pass.
  Status run_pass(Entry& entry, ir::Module& module, ir::Region* region, PassContext& context);
  std::string command_line(const Entry& failed, const PassContext& context) const;
  Status failure(const Entry& entry, const ir::Region* region, const Status& cause,
                 const PassContext& context, const ir::Module* last_good) const;

  Options options_;
  std::vector<Entry> entries_;
  std::vector<PassTiming> timings_;
};

}  // namespace abq::passes
