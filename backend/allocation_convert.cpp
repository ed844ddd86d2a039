// quant::AllocationReport <-> proto::AllocationReport.
#include "backend/allocation_convert.h"

namespace abq::backend {

void to_proto(const quant::AllocationReport& allocation, proto::AllocationReport* out) {
  out->Clear();
  out->set_target(allocation.target);
  for (const quant::UnitAllocation& unit : allocation.units) {
    proto::UnitAllocation* added = out->add_units();
    added->mutable_layers()->Assign(unit.layers.begin(), unit.layers.end());
    for (const quant::SchemeChoice& choice : unit.choices) {
      proto::SchemeChoice* stored = added->add_choices();
      stored->set_scheme(choice.scheme);
      stored->set_bytes(choice.bytes);
      stored->set_kl(choice.kl);
    }
    added->set_chosen(static_cast<int32_t>(unit.chosen));
  }
  out->set_tokens(allocation.tokens);
  out->set_activation_kl(allocation.activation_kl);
  out->set_predicted_kl(allocation.predicted_kl);
  out->set_measured_kl(allocation.measured_kl);
}

quant::AllocationReport from_proto(const proto::AllocationReport& allocation) {
  quant::AllocationReport out;
  out.target = allocation.target();
  for (const proto::UnitAllocation& unit : allocation.units()) {
    quant::UnitAllocation& added = out.units.emplace_back();
    added.layers.assign(unit.layers().begin(), unit.layers().end());
    for (const proto::SchemeChoice& choice : unit.choices())
      added.choices.push_back({choice.scheme(), choice.bytes(), choice.kl()});
    added.chosen = unit.chosen();
  }
  out.tokens = allocation.tokens();
  out.activation_kl = allocation.activation_kl();
  out.predicted_kl = allocation.predicted_kl();
  out.measured_kl = allocation.measured_kl();
  return out;
}

}  // namespace abq::backend
