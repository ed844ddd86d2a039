// quant::Report <-> proto::Report.
#include "backend/allocation_convert.h"
#include "backend/backend.h"

namespace abq::backend {
namespace {

void to_proto(const quant::Quality& quality, proto::Quality* out) {
  out->set_sqnr_db(quality.sqnr_db);
  out->set_cosine(quality.cosine);
  out->set_max_error(quality.max_error);
}

quant::Quality from_proto(const proto::Quality& quality) {
  return {quality.sqnr_db(), quality.cosine(), quality.max_error()};
}

void to_proto(const quant::LayerReport& layer, proto::LayerReport* out) {
  out->set_name(layer.name);
  out->set_scheme(layer.scheme);
  out->set_n(layer.n);
  out->set_k(layer.k);
  out->set_encoding(layer.encoding);
  out->set_packed_bytes(layer.packed_bytes);
  out->set_parameter_bytes(layer.parameter_bytes);
  out->set_kernel(layer.kernel);
  to_proto(layer.weight, out->mutable_weight());
  if (layer.output) to_proto(*layer.output, out->mutable_output());
  out->set_clip_low(layer.clip_low);
  out->set_clip_high(layer.clip_high);
  out->set_outlier_ratio(layer.outlier_ratio);
  if (layer.rounding) {
    out->mutable_rounding()->set_damping(layer.rounding->damping);
    out->mutable_rounding()->set_loss(layer.rounding->loss);
    out->mutable_rounding()->set_nearest_loss(layer.rounding->nearest_loss);
  }
}

quant::LayerReport from_proto(const proto::LayerReport& layer) {
  quant::LayerReport out;
  out.name = layer.name();
  out.scheme = layer.scheme();
  out.n = layer.n();
  out.k = layer.k();
  out.encoding = layer.encoding();
  out.packed_bytes = layer.packed_bytes();
  out.parameter_bytes = layer.parameter_bytes();
  out.kernel = layer.kernel();
  out.weight = from_proto(layer.weight());
  if (layer.has_output()) out.output = from_proto(layer.output());
  out.clip_low = layer.clip_low();
  out.clip_high = layer.clip_high();
  out.outlier_ratio = layer.outlier_ratio();
  if (layer.has_rounding())
    out.rounding = quant::RoundingReport{layer.rounding().damping(), layer.rounding().loss(),
                                         layer.rounding().nearest_loss()};
  return out;
}

void to_proto(const quant::LossParts& loss, proto::LossParts* out) {
  out->set_total(loss.total);
  out->set_dlc(loss.dlc);
  out->set_akl(loss.akl);
  out->set_mse(loss.mse);
}

quant::LossParts from_proto(const proto::LossParts& loss) {
  return {loss.total(), loss.dlc(), loss.akl(), loss.mse()};
}

}  // namespace

void to_proto(const quant::BlockReport& block, proto::BlockReport* out) {
  out->Clear();
  out->set_name(block.name);
  for (const quant::LossParts& epoch : block.epochs)
    to_proto(epoch, out->add_epochs());
  to_proto(block.rounding, out->mutable_rounding());
  to_proto(block.learned, out->mutable_learned());
  out->set_learned_kept(block.learned_kept);
  out->set_micro_batch(static_cast<int32_t>(block.micro_batch));
  for (const quant::ScaleReport& scale : block.scales) {
    proto::ScaleReport* added = out->add_scales();
    added->set_site(scale.site);
    added->set_min(scale.min);
    added->set_median(scale.median);
    added->set_max(scale.max);
  }
  out->set_compensation_norm(block.compensation_norm);
  out->set_changed_codes(block.changed_codes);
  out->set_attention_divergence_before(block.attention_divergence_before);
  out->set_attention_divergence_after(block.attention_divergence_after);
  for (const std::string& event : block.events)
    out->add_events(event);
}

quant::BlockReport from_proto(const proto::BlockReport& block) {
  quant::BlockReport out;
  out.name = block.name();
  for (const proto::LossParts& epoch : block.epochs())
    out.epochs.push_back(from_proto(epoch));
  out.rounding = from_proto(block.rounding());
  out.learned = from_proto(block.learned());
  out.learned_kept = block.learned_kept();
  out.micro_batch = block.micro_batch();
  for (const proto::ScaleReport& scale : block.scales())
    out.scales.push_back({scale.site(), scale.min(), scale.median(), scale.max()});
  out.compensation_norm = block.compensation_norm();
  out.changed_codes = block.changed_codes();
  out.attention_divergence_before = block.attention_divergence_before();
  out.attention_divergence_after = block.attention_divergence_after();
  out.events.assign(block.events().begin(), block.events().end());
  return out;
}

namespace {

void to_proto(const quant::RotationReport& rotation, proto::RotationReport* out) {
  out->set_residual(rotation.residual);
  out->set_width(rotation.width);
  out->set_seed(rotation.seed);
  out->set_value_output(rotation.value_output);
  out->set_query_key(rotation.query_key);
  out->set_down(rotation.down);
}

quant::RotationReport from_proto(const proto::RotationReport& rotation) {
  return {.residual = rotation.residual(),
          .width = rotation.width(),
          .seed = rotation.seed(),
          .value_output = rotation.value_output(),
          .query_key = rotation.query_key(),
          .down = rotation.down()};
}

void to_proto(const quant::DistillationReport& distillation, proto::DistillationReport* out) {
  out->set_before(distillation.before);
  out->set_after(distillation.after);
  for (const double epoch : distillation.epochs)
    out->add_epochs(epoch);
  out->set_kept(distillation.kept);
}

quant::DistillationReport from_proto(const proto::DistillationReport& distillation) {
  return {.before = distillation.before(),
          .after = distillation.after(),
          .epochs = {distillation.epochs().begin(), distillation.epochs().end()},
          .kept = distillation.kept()};
}

}  // namespace

void to_proto(const quant::Report& report, proto::Report* out) {
  out->Clear();
  for (const quant::LayerReport& layer : report.layers)
    to_proto(layer, out->add_layers());
  for (const quant::BlockReport& block : report.blocks)
    to_proto(block, out->add_blocks());
  for (const std::string& note : report.notes)
    out->add_notes(note);
  if (report.rotation) to_proto(*report.rotation, out->mutable_rotation());
  if (report.allocation) to_proto(*report.allocation, out->mutable_allocation());
  if (report.distillation) to_proto(*report.distillation, out->mutable_distillation());
  out->set_calibration_tokens(report.calibration_tokens);
  out->set_block_linear_bits(report.block_linear_bits);
  out->set_file_bits(report.file_bits);
}

quant::Report from_proto(const proto::Report& report) {
  quant::Report out;
  for (const proto::LayerReport& layer : report.layers())
    out.layers.push_back(from_proto(layer));
  for (const proto::BlockReport& block : report.blocks())
    out.blocks.push_back(from_proto(block));
  out.notes.assign(report.notes().begin(), report.notes().end());
  if (report.has_rotation()) out.rotation = from_proto(report.rotation());
  if (report.has_allocation()) out.allocation = from_proto(report.allocation());
  if (report.has_distillation()) out.distillation = from_proto(report.distillation());
  out.calibration_tokens = report.calibration_tokens();
  out.block_linear_bits = report.block_linear_bits();
  out.file_bits = report.file_bits();
  return out;
}

}  // namespace abq::backend
