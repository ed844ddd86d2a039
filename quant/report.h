// The quality report that a compilation leaves behind; proto/report.proto is its stored form.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "quant/scheme.h"

namespace abq::quant {

// How well one approximation follows its original.
struct Quality {
  double sqnr_db = 0;
  double cosine = 1;
  double max_error = 0;
};

// How a layer's codes were chosen on calibration text (GPTQ). A loss is the sum of
// (w' - w) H (w' - w)^T over the rows, H = 2 X^T X / tokens: twice the mean squared output error.
struct RoundingReport {
  double damping = 0;       // part of H's mean diagonal that was added to it
  double loss = 0;          // of the chosen codes
  double nearest_loss = 0;  // of rounding to nearest with the same clip factors
};

struct LayerReport {
  std::string name;    // "layers.3.mlp.down"
  std::string scheme;  // canonical scheme string of the layer's weights and inputs
  int64_t n = 0;
  int64_t k = 0;
  std::string encoding;         // "planes", "base5", "base3", "bf16", ...
  int64_t packed_bytes = 0;     // codes with padding
  int64_t parameter_bytes = 0;  // scales and zero points
  std::string kernel;           // kernel family chosen by the backend
  Quality weight;
  std::optional<Quality> output;  // same input, quantized against float, when calibrated
  double clip_low = 1;            // mean clip ratios
  double clip_high = 1;
  double outlier_ratio = 0;  // max over channels of max|x| / median over channels, when calibrated
  std::optional<RoundingReport> rounding;  // method gptq
};

// A loss and its terms, each already times its weight; means over steps or windows.
struct LossParts {
  double total = 0;
  double dlc = 0;
  double akl = 0;
  double mse = 0;
};

// The learned channel scales of one site.
struct ScaleReport {
  std::string site;  // "layers.0.input_norm -> q, k, v"
  double min = 1;
  double median = 1;
  double max = 1;
};

// What distribution correction or learned rounding did to one decoder block.
struct BlockReport {
  std::string name;               // "layers.3"
  std::vector<LossParts> epochs;  // mean over the steps of each epoch
  LossParts rounding;             // all windows, nothing learned: plain rounding with clip search,
                                  // or (learned rounding) GPTQ's
  LossParts learned;              // all windows: the best state
  bool learned_kept = true;       // false: the block is rounded as without learning
  int64_t micro_batch = 0;        // windows of a batch that went through at a time
  std::vector<ScaleReport> scales;
  double changed_codes = 0;      // learned rounding: codes that moved, as a part of all
  double compensation_norm = 0;  // |a b^T| / |W| (Frobenius) of the down projection
  // Mean symmetric divergence of the attention probabilities from the float model's.
  double attention_divergence_before = 0;  // plain rounding
  double attention_divergence_after = 0;
  std::vector<std::string> events;  // recoveries from non-finite losses, fallbacks
};

// What the pass `rotate` did. Sizes of Hadamard transforms; 0 where there is none.
struct RotationReport {
  std::string residual;  // "hadamard 12 x 32 with random signs", "random orthogonal", "none"
  int64_t width = 0;     // channels of the residual stream
  uint64_t seed = 0;
  int64_t value_output = 0;
  int64_t query_key = 0;  // online
  int64_t down = 0;       // online, the widest
};

// A scheme that layers could have had.
struct SchemeChoice {
  std::string scheme;  // of weights and inputs
  int64_t bytes = 0;   // everything stored for the layers
  double kl = 0;       // predicted of these layers alone, nats per token (passes/allocation)
};

// Layers that get one scheme together.
struct UnitAllocation {
  std::vector<std::string> layers;
  std::vector<SchemeChoice> choices;  // one for a layer whose scheme the recipe gives
  int64_t chosen = 0;
};

// How the widths of block linears were chosen (docs/bit_allocation.md). KLs are KL(float model ||
// other) in nats per token over the same calibration tokens.
struct AllocationReport {
  std::string target;  // "3 true bits per weight of the linears"
  std::vector<UnitAllocation> units;
  int64_t tokens = 0;
  double activation_kl = 0;  // float weights behind quantized activations and attention
  double predicted_kl = 0;   // that, and the chosen schemes' added up
  double measured_kl = 0;    // of the finished artifact
};

// What the pass `distill` did: KL(float || quantized) of the next token, mean over the tokens of
// all calibration windows, in nats.
struct DistillationReport {
  double before = 0;
  double after = 0;
  std::vector<double> epochs;  // mean over the steps of each epoch
  bool kept = true;            // false: the divergence did not fall, and nothing was changed
};

struct Report {
  std::vector<LayerReport> layers;
  std::vector<BlockReport> blocks;  // learned methods only
  std::vector<std::string> notes;   // fallbacks, guards hit, anything a user should know
  std::optional<RotationReport> rotation;
  std::optional<AllocationReport> allocation;
  std::optional<DistillationReport> distillation;  // method best
  int64_t calibration_tokens = 0;
  double block_linear_bits = 0;  // true bits per weight over the block linears, everything stored
  double file_bits = 0;          // 8 x file size / all weights of the model
};

}  // namespace abq::quant
