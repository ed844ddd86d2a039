// quant::CorrectionSettings and DistillationSettings <-> proto, and what their values may be.
#include <fmt/ranges.h>

#include <array>
#include <cmath>
#include <span>
#include <string_view>
#include <utility>

#include "backend/backend.h"
#include "backend/correction_convert.h"

namespace abq::backend {
namespace {

// Spellings of an enum, in the order of its values.
constexpr std::array<std::string_view, 3> kCompensationNames = {"none", "ends", "all"};
constexpr std::array<std::string_view, 2> kScheduleNames = {"constant", "cosine"};
constexpr std::array<std::string_view, 2> kClipStartNames = {"wide", "search"};

template <class Enum>
std::string name_of(std::span<const std::string_view> names, Enum value) {
  return std::string(names[static_cast<size_t>(value)]);
}

// An empty name leaves the default.
template <class Enum>
Status parse_name(std::string_view field, std::string_view name,
                  std::span<const std::string_view> names, Enum& value) {
  if (name.empty()) return {};
  for (size_t i = 0; i < names.size(); ++i) {
    if (name != names[i]) continue;
    value = static_cast<Enum>(i);
    return {};
  }
  return invalid_argument("correction: {} is '{}', expected {}", field, name,
                          fmt::join(names, ", "));
}

Status check_rate(std::string_view field, double rate) {
  if (std::isfinite(rate) && rate > 0) return {};
  return invalid_argument("correction: {} is {}, expected a positive number", field, rate);
}

Status check_weight(std::string_view field, double weight) {
  if (std::isfinite(weight) && weight >= 0) return {};
  return invalid_argument("correction: {} is {}, expected 0 or a positive number", field, weight);
}

}  // namespace

Status check_correction(const quant::CorrectionSettings& settings) {
  if (settings.epochs < 1 || settings.epochs > 10000)
    return invalid_argument("correction: epochs is {}, expected 1 to 10000", settings.epochs);
  if (settings.batch < 1)
    return invalid_argument("correction: batch is {}, expected at least 1", settings.batch);
  if (settings.micro_batch < 0 ||
      (settings.micro_batch > 0 && settings.batch % settings.micro_batch != 0)) {
    return invalid_argument(
        "correction: micro_batch {} does not divide batch {}; use a divisor, or 0 for the batch if "
        "it fits",
        settings.micro_batch, settings.batch);
  }
  ABQ_RETURN_IF_ERROR(check_rate("scale_rate", settings.scale_rate));
  ABQ_RETURN_IF_ERROR(check_rate("clip_rate", settings.clip_rate));
  ABQ_RETURN_IF_ERROR(check_rate("compensation_rate", settings.compensation_rate));
  ABQ_RETURN_IF_ERROR(check_rate("code_rate", settings.code_rate));
  ABQ_RETURN_IF_ERROR(check_rate("step_rate", settings.step_rate));
  ABQ_RETURN_IF_ERROR(check_rate("norm_rate", settings.norm_rate));
  if (!(settings.scale_start >= 0 && settings.scale_start <= 1))
    return invalid_argument("correction: scale_start is {}, expected 0 to 1", settings.scale_start);
  const std::array<std::pair<std::string_view, double>, 6> weights = {
      {{"dlc_float", settings.dlc_float},
       {"dlc_quantized", settings.dlc_quantized},
       {"akl_float", settings.akl_float},
       {"akl_quantized", settings.akl_quantized},
       {"mse_float", settings.mse_float},
       {"mse_quantized", settings.mse_quantized}}};
  double sum = 0;
  for (const auto& [field, weight] : weights) {
    ABQ_RETURN_IF_ERROR(check_weight(field, weight));
    sum += weight;
  }
  if (sum == 0)
    return invalid_argument(
        "correction: every loss term has weight 0; give one of dlc_float, dlc_quantized, "
        "akl_float, akl_quantized, mse_float, mse_quantized a weight");
  return {};
}

void to_proto(const quant::CorrectionSettings& settings, proto::CorrectionSettings* out) {
  if (settings.epochs > 0) out->set_epochs(static_cast<int32_t>(settings.epochs));
  out->set_batch(static_cast<int32_t>(settings.batch));
  out->set_micro_batch(static_cast<int32_t>(settings.micro_batch));
  out->set_scales(settings.scales);
  out->set_clips(settings.clips);
  out->set_compensation(name_of(kCompensationNames, settings.compensation));
  out->set_scale_rate(settings.scale_rate);
  out->set_clip_rate(settings.clip_rate);
  out->set_compensation_rate(settings.compensation_rate);
  out->set_code_rate(settings.code_rate);
  out->set_step_rate(settings.step_rate);
  out->set_norm_rate(settings.norm_rate);
  out->set_schedule(name_of(kScheduleNames, settings.schedule));
  out->set_clip_start(name_of(kClipStartNames, settings.clip_start));
  out->set_scale_start(settings.scale_start);
  out->set_relative_scales(settings.relative_scales);
  out->set_dlc_float(settings.dlc_float);
  out->set_dlc_quantized(settings.dlc_quantized);
  out->set_akl_float(settings.akl_float);
  out->set_akl_quantized(settings.akl_quantized);
  out->set_mse_float(settings.mse_float);
  out->set_mse_quantized(settings.mse_quantized);
}

Result<quant::CorrectionSettings> from_proto(const proto::CorrectionSettings& settings) {
  quant::CorrectionSettings out;
  if (settings.has_epochs()) out.epochs = settings.epochs();
  if (settings.has_batch()) out.batch = settings.batch();
  if (settings.has_micro_batch()) out.micro_batch = settings.micro_batch();
  if (settings.has_scales()) out.scales = settings.scales();
  if (settings.has_clips()) out.clips = settings.clips();
  ABQ_RETURN_IF_ERROR(
      parse_name("compensation", settings.compensation(), kCompensationNames, out.compensation));
  if (settings.has_scale_rate()) out.scale_rate = settings.scale_rate();
  if (settings.has_clip_rate()) out.clip_rate = settings.clip_rate();
  if (settings.has_compensation_rate()) out.compensation_rate = settings.compensation_rate();
  if (settings.has_code_rate()) out.code_rate = settings.code_rate();
  if (settings.has_step_rate()) out.step_rate = settings.step_rate();
  if (settings.has_norm_rate()) out.norm_rate = settings.norm_rate();
  ABQ_RETURN_IF_ERROR(parse_name("schedule", settings.schedule(), kScheduleNames, out.schedule));
  ABQ_RETURN_IF_ERROR(
      parse_name("clip_start", settings.clip_start(), kClipStartNames, out.clip_start));
  if (settings.has_scale_start()) out.scale_start = settings.scale_start();
  if (settings.has_relative_scales()) out.relative_scales = settings.relative_scales();
  if (settings.has_dlc_float()) out.dlc_float = settings.dlc_float();
  if (settings.has_dlc_quantized()) out.dlc_quantized = settings.dlc_quantized();
  if (settings.has_akl_float()) out.akl_float = settings.akl_float();
  if (settings.has_akl_quantized()) out.akl_quantized = settings.akl_quantized();
  if (settings.has_mse_float()) out.mse_float = settings.mse_float();
  if (settings.has_mse_quantized()) out.mse_quantized = settings.mse_quantized();
  quant::CorrectionSettings checked = out;
  if (!settings.has_epochs()) checked.epochs = 1;  // the method's own, whatever that is
  ABQ_RETURN_IF_ERROR(check_correction(checked));
  return out;
}

void to_proto(const quant::DistillationSettings& settings, proto::DistillationSettings* out) {
  out->set_epochs(static_cast<int32_t>(settings.epochs));
  out->set_batch(static_cast<int32_t>(settings.batch));
  out->set_step_rate(settings.step_rate);
  out->set_norm_rate(settings.norm_rate);
}

Result<quant::DistillationSettings> from_proto(const proto::DistillationSettings& settings) {
  quant::DistillationSettings out;
  if (settings.has_epochs()) out.epochs = settings.epochs();
  if (settings.has_batch()) out.batch = settings.batch();
  if (settings.has_step_rate()) out.step_rate = settings.step_rate();
  if (settings.has_norm_rate()) out.norm_rate = settings.norm_rate();
  if (out.epochs < 0 || out.epochs > 10000)
    return invalid_argument("distillation: epochs is {}, expected 0 to 10000", out.epochs);
  if (out.batch < 1)
    return invalid_argument("distillation: batch is {}, expected at least 1", out.batch);
  for (const double rate : {out.step_rate, out.norm_rate})
    if (!std::isfinite(rate) || rate <= 0)
      return invalid_argument("distillation: a rate is {}, expected a positive number", rate);
  return out;
}

}  // namespace abq::backend
