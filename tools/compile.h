// The whole compilation, as `abq compile` and the end-to-end tests run it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "proto/plan.pb.h"
#include "quant/recipe.h"
#include "support/status.h"

namespace abq::tools {

// What the command line changes of quant::CorrectionSettings; for methods abq and best.
struct CorrectionFlags {
  bool no_akl = false;
  bool no_dlc = false;
  bool no_compensation = false;
  bool no_lwc = false;
  bool no_let = false;
  bool mse = false;                   // both squared errors with weight 1
  int64_t epochs = 0;                 // 0 = the recipe's
  int64_t batch = 0;                  // 0 = the recipe's
  std::optional<uint64_t> seed = {};  // empty = the recipe's
};

// Widths of layers chosen under a budget (docs/bit_allocation.md); at most one of the three is
// given.
struct BitTarget {
  double bits = 0;                       // true bits per weight of the block linears; 0 = not given
  uint64_t file_size = 0;                // bytes; 0 = not given
  double kl = 0;                         // nats per token; 0 = not given
  std::vector<std::string> widths = {};  // candidates, e.g. "2b"; empty = the default ones
  int64_t windows = 0;                   // of the calibration text to measure on; 0 = 4
  bool split_units = false;              // layers that share an input may get different widths

  bool given() const { return bits > 0 || file_size > 0 || kl > 0; }
};

struct CompileOptions {
  std::string model_dir;
  std::string output;
  std::string scheme;  // may be empty with a recipe file
  std::string method;  // empty = the recipe's; that, too: best with calibration text, else rtn
  std::string calibration_file;     // UTF-8 text; empty = not calibrated
  std::string recipe_file;          // JSON; the other options override it
  int64_t calibration_windows = 0;  // 0 = the recipe's
  int64_t calibration_context = 0;  // 0 = the recipe's, at most the model's context
  // How the residual stream is turned (backend::parse_residual_rotation); empty: as the recipe
  // says.
  std::string rotation;
  bool clip_search = false;
  CorrectionFlags correction;
  BitTarget target;
  // Where calibrated methods compute (tools/tensor_devices.h).
  std::string device = "auto";
  uint64_t memory_budget = 0;  // bytes; 0 = none (tools/memory_budget.h)
  // What methods abq and best have learned is kept here until the artifact is written, and taken up
  // again by the next compilation (tools/work_folder.h), and what layers cost at each width, for
  // further ones, too (tools/sensitivity_cache.h); empty = output + ".work", which goes when the
  // artifact is written.
  std::string work_dir;
  bool restart = false;  // discards what a stopped compilation learned
  bool resume = true;    // false: no work folder at all
  bool force = false;    // replace an existing output
  bool verify_each = true;
  std::string print_after;
  std::string reproducer_dir;
};

struct CompileResult {
  proto::Plan plan;
  int64_t file_size = 0;
};

// Writes options.output whole or not at all. Where a target was missed, it compiles again with a
// stricter choice of widths; InvalidArgument when the third choice misses it, too.
Result<CompileResult> compile(const CompileOptions& options);

// Where a compilation keeps its work.
std::string work_folder_path(const CompileOptions& options);

// The recipe file, if any, with the flags of the command line on top.
Result<quant::Recipe> make_recipe(const CompileOptions& options);

}  // namespace abq::tools
