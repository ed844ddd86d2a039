#include "passes/gptq_rounding.h"

#include <algorithm>
#include <cmath>

#include "passes/layers.h"

namespace abq::passes {
namespace {

Status check_grids(const ChosenGrids& grids, const quant::WeightSpec& spec, size_t count) {
  const auto check_size = [&](const char* what, size_t size) -> Status {
    if (size == 0 || size == count) return {};
    return invalid_argument("{}: expected {}, one for each row and group, got {}", what, count,
                            size);
  };
  ABQ_RETURN_IF_ERROR(check_size("clip factors", grids.clips.size()));
  ABQ_RETURN_IF_ERROR(check_size("scales", grids.scales.size()));
  if (grids.scales.size() != grids.zeros.size() || (!grids.scales.empty() && !grids.clips.empty()))
    return invalid_argument("grids: expected scales with zero points, or clip factors, or neither");
  const auto in_range = [](float clip) { return clip > 0.0f && clip <= 1.0f; };
  for (const quant::ClipRatio& clip : grids.clips)
    if (!in_range(clip.low) || !in_range(clip.high))
      return invalid_argument("clip factors: got ({}, {}); expected values in (0, 1]", clip.low,
                              clip.high);
  for (size_t i = 0; i < grids.scales.size(); ++i)
    if (!std::isfinite(grids.scales[i]) || grids.scales[i] < quant::kMinScale ||
        grids.zeros[i] >= spec.levels())
      return invalid_argument(
          "grids: scale {} and zero point {}; expected a scale of at least {} and a zero point "
          "below {}",
          grids.scales[i], grids.zeros[i], quant::kMinScale, spec.levels());
  return {};
}

}  // namespace

Result<RoundedLayer> round_layer(compute::CompensatedRounder& rounder, MatrixView<const float> w,
                                 const quant::WeightSpec& spec, const ChosenGrids& grids) {
  // The checks of spec and values; the codes are the price.
  ABQ_RETURN_IF_ERROR(quant::quantize_weights(w, spec).status());
  const auto count = static_cast<size_t>(w.rows * spec.groups(w.cols));
  ABQ_RETURN_IF_ERROR(check_grids(grids, spec, count));
  std::vector<float> clip_low;
  std::vector<float> clip_high;
  for (const quant::ClipRatio& clip : grids.clips) {
    clip_low.push_back(clip.low);
    clip_high.push_back(clip.high);
  }
  ABQ_ASSIGN_OR_RETURN(
      compute::CompensatedWeights rounded,
      rounder.round(w, weight_quantizer(spec), {grids.scales, grids.zeros, clip_low, clip_high}));
  RoundedLayer layer;
  layer.weights = {spec,
                   w.rows,
                   w.cols,
                   std::move(rounded.codes),
                   std::move(rounded.scales),
                   std::move(rounded.zeros)};
  layer.clips.resize(count);
  for (size_t i = 0; i < count; ++i)
    layer.clips[i] = {rounded.clip_low[i], rounded.clip_high[i]};
  layer.report = {rounded.damping, rounded.loss, rounded.nearest_loss};
  return layer;
}

}  // namespace abq::passes
