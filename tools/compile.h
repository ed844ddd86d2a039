// The whole compilation, as `abq compile` and the end-to-end tests run it.
#pragma once

#include <cstdint>
#include <string>

#include "proto/plan.pb.h"
#include "support/status.h"

namespace abq::tools {

struct CompileOptions {
  std::string model_dir;
  std::string output;
  std::string scheme;               // may be empty with a recipe file
  std::string method;               // empty = the recipe's, or rtn
  std::string calibration_file;     // UTF-8 text; empty = not calibrated
  std::string recipe_file;          // JSON; the other options override it
  int64_t calibration_windows = 0;  // 0 = the recipe's
  int64_t calibration_context = 0;  // 0 = the recipe's, at most the model's context
  bool clip_search = false;
  bool force = false;  // replace an existing output
  bool verify_each = true;
  std::string print_after;
  std::string reproducer_dir;
};

struct CompileResult {
  proto::Plan plan;
  int64_t file_size = 0;
};

// Writes options.output whole or not at all.
Result<CompileResult> compile(const CompileOptions& options);

}  // namespace abq::tools
