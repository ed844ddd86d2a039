// The named pipelines: which passes a method runs, in which order, and why.
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "passes/pass.h"

namespace abq::passes {
namespace {

constexpr PipelineStep kAssignSchemes = {
    "assign-schemes", "later passes ask for a layer's widths by name; bad recipes stop here"};
constexpr PipelineStep kBalanceBits = {
    "balance-bits", "the number of levels must be known before weights are quantized"};
constexpr PipelineStep kRotate = {"rotate",
                                  "all that follows works in the coordinates of what is deployed"};
constexpr PipelineStep kCalibrate = {
    "calibrate", "statistics must come from the float block, before anything changes it"};
constexpr PipelineStep kSmooth = {"smooth",
                                  "scales fold into float weights, so before they are quantized"};
constexpr PipelineStep kCorrectDistribution = {
    "correct-distribution",
    "what it learns folds into float weights, so before they are quantized"};
constexpr PipelineStep kGptq = {"gptq", "chooses codes for the float weights as they are by now"};
constexpr PipelineStep kLearnRounding = {
    "learn-rounding",
    "moves the codes that gptq chose, so behind it; the next block must see them"};
constexpr PipelineStep kDistill = {
    "distill", "fits the whole model, so when the codes of all blocks are there"};
constexpr PipelineStep kCalibrateAgain = {
    "calibrate", "the second round starts at the first block: float inputs to measure outputs on"};
constexpr PipelineStep kQuantize = {"quantize", "all float corrections are folded in by now"};
constexpr PipelineStep kMeasureOutputs = {
    "measure-outputs", "needs the codes unpacked and the float block still at hand"};
constexpr PipelineStep kReplayQuantized = {
    "replay-quantized", "the next block is corrected behind this one as it will be deployed"};
constexpr PipelineStep kPackWeights = {"pack-weights",
                                       "last: nothing after it looks at single codes"};

}  // namespace

Result<std::vector<PipelineStep>> pipeline_for(const quant::Recipe& recipe, bool calibrated) {
  const std::string& method = recipe.method;
  constexpr std::array<std::string_view, 5> kMethods = {"rtn", "smooth", "gptq", "abq", "best"};
  if (std::find(kMethods.begin(), kMethods.end(), method) == kMethods.end())
    return invalid_argument("method '{}' does not exist; there are {}", method,
                            fmt::join(kMethods, ", "));
  if (method != "rtn" && !calibrated)
    return invalid_argument("{} needs calibration text; give --calib FILE", method);
  std::vector<PipelineStep> steps = {kAssignSchemes, kBalanceBits};
  if (recipe.rotation) steps.push_back(kRotate);
  if (calibrated) steps.push_back(kCalibrate);
  if (method == "smooth") steps.push_back(kSmooth);
  if (method == "abq") steps.push_back(kCorrectDistribution);
  if (method == "gptq" || method == "best") steps.push_back(kGptq);
  if (method == "best") {
    steps.push_back(kLearnRounding);
    steps.push_back(kReplayQuantized);
    if (recipe.distillation.epochs > 0) {
      steps.push_back(kDistill);
      steps.push_back(kCalibrateAgain);
    }
  }
  steps.push_back(kQuantize);
  if (method == "abq" || method == "gptq") steps.push_back(kReplayQuantized);
  if (calibrated) steps.push_back(kMeasureOutputs);
  steps.push_back(kPackWeights);
  return steps;
}

}  // namespace abq::passes
