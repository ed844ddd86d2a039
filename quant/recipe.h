// What a user asks of a compilation; proto/recipe.proto is its stored form (tools and backend
// convert).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "quant/scheme.h"

namespace abq::quant {

// Layers whose name matches `pattern` (shell style: * and ?) use `scheme` for weights and inputs.
struct LayerOverride {
  std::string pattern;
  Scheme scheme;
};

struct CalibrationSettings {
  int64_t windows = 128;   // windows cut evenly from the token stream, in order
  int64_t context = 1024;  // tokens per window
};

// Blocks whose down projections get compensation vectors: none, the first 3 and the last 4, all.
enum class CompensationBlocks { kNone, kEnds, kAll };
inline constexpr int64_t kCompensatedFirstBlocks = 3;
inline constexpr int64_t kCompensatedLastBlocks = 4;

// How a learning rate goes over the steps of a block: as it is, or down to 0 along half a cosine.
enum class RateSchedule { kConstant, kCosine };

// Where clip factors start: at sigmoid(4) on both ends, or at what clip search finds.
enum class ClipStart { kWide, kSearch };

// The learned passes of methods "abq" and "best" (docs/distribution_correction.md,
// docs/learned_rounding.md). Defaults are what measured best over the widths of
// docs/benchmarks.md; docs/recipes/abq_paper.json has the paper's.
struct CorrectionSettings {
  int64_t epochs = 0;       // 0: not said, and the pass's own, below
  int64_t batch = 4;        // windows a step
  int64_t micro_batch = 0;  // windows at a time, gradients added up; 0 = the batch if it fits
  // What "abq" learns.
  bool scales = true;  // LET: channel scales on every site
  bool clips = true;   // LWC: clip factors of every block linear
  CompensationBlocks compensation = CompensationBlocks::kEnds;
  // Rates of AdamW, and how they go.
  double scale_rate = 1e-2;
  double clip_rate = 2e-2;
  double compensation_rate = 1e-2;
  // "best": codes in units of a code, step sizes as ratios to their start, norm weights.
  double code_rate = 1e-2;
  double step_rate = 1e-3;
  double norm_rate = 5e-4;
  RateSchedule schedule = RateSchedule::kCosine;
  ClipStart clip_start = ClipStart::kWide;
  // Channel scales start at SmoothQuant's to this power: 1 = there, 0 = at 1. What is learned is
  // the scale itself, or its ratio to the start, so that large scales move as fast as small ones.
  bool relative_scales = true;
  double scale_start = 1;
  // Weights of the loss terms (passes/correction/losses.h); 0 leaves a term out. Targets are the
  // float block's on the float stream, or on the quantized stream.
  double dlc_float = 1;  // -log |mean cosine| of the outputs
  double dlc_quantized = 1;
  double akl_float = 0.1;  // symmetric divergence of the attention probabilities
  double akl_quantized = 0;
  double mse_float = 0;  // mean squared error of the outputs
  double mse_quantized = 0;
};

// Epochs where nothing else is asked for. Learned rounding starts near its end.
inline constexpr int64_t kCorrectionEpochs = 20;
inline constexpr int64_t kRoundingEpochs = 10;

// By what the residual stream is turned: a Hadamard matrix with random signs where its width has
// one, else a random orthogonal matrix; always the latter; nothing.
enum class ResidualRotation { kHadamard, kOrthogonal, kNone };

// The pass `rotate` (docs/rotation.md). What is turned online costs at run time.
struct RotationSettings {
  ResidualRotation residual = ResidualRotation::kHadamard;
  bool value_output = true;  // per head, between v and o; folded into both
  bool query_key = true;     // per head, after RoPE; online, where attention is quantized
  bool down = true;          // before down projections; online
  int64_t down_size = 0;     // of the transforms before down projections; 0 = online_hadamard()
  bool half_tables = true;   // embedding and head that change stored as float16, else float32
};

// The pass `distill` of method "best" (docs/learned_rounding.md): step sizes and norm weights of
// the whole model against the float model's logits, over the calibration windows.
struct DistillationSettings {
  int64_t epochs = 6;  // 0 = not at all
  int64_t batch = 4;   // windows a step
  double step_rate = 2e-3;
  double norm_rate = 2e-3;
};

struct Recipe {
  Scheme scheme;
  std::string method = "rtn";  // rtn | smooth | gptq | abq | best; empty: not said
  bool clip_search = false;
  double smooth_alpha = 0.5;
  CalibrationSettings calibration;
  CorrectionSettings correction;             // abq and best
  DistillationSettings distillation;         // best
  std::optional<RotationSettings> rotation;  // composes with every method
  std::vector<LayerOverride> overrides;
  uint64_t seed = 0;

  // Whether the method learns by gradient, block by block.
  bool learned() const { return method == "abq" || method == "best"; }
  int64_t default_epochs() const { return method == "best" ? kRoundingEpochs : kCorrectionEpochs; }
};

}  // namespace abq::quant
