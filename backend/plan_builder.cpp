#include "backend/backend.h"
#include "backend/lowering.h"
#include "backend/memory_planner.h"
#include "proto/artifact_format.h"

namespace abq::backend {
namespace {

Result<proto::ModelInfo> model_info(const ir::Module& module) {
  for (const char* key : {"vocab_size", "hidden_size", "layers", "heads", "kv_heads", "head_dim",
                          "intermediate_size", "context"}) {
    const auto found = module.attributes.find(key);
    if (found == module.attributes.end() || !std::holds_alternative<int64_t>(found->second))
      return invalid_argument("module {}: attribute {} is missing", module.name, key);
  }
  proto::ModelInfo info;
  info.set_name(module.name);
  if (const auto family = module.attributes.find("family"); family != module.attributes.end()) {
    if (const auto* text = std::get_if<std::string>(&family->second)) info.set_family(*text);
  }
  info.set_vocab_size(module.int_attribute("vocab_size"));
  info.set_hidden_size(module.int_attribute("hidden_size"));
  info.set_layers(module.int_attribute("layers"));
  info.set_heads(module.int_attribute("heads"));
  info.set_kv_heads(module.int_attribute("kv_heads"));
  info.set_head_dim(module.int_attribute("head_dim"));
  info.set_intermediate_size(module.int_attribute("intermediate_size"));
  info.set_context(module.int_attribute("context"));
  return info;
}

}  // namespace

PlanBuilder::PlanBuilder(ArtifactWriter& writer) : state_(std::make_unique<PlanState>(writer)) {}
PlanBuilder::~PlanBuilder() = default;

Status PlanBuilder::lower(const ir::Module& module, const ir::Region& region) {
  return lower_region(module, region, *state_);
}

Result<proto::Plan> PlanBuilder::finish(const ir::Module& module) {
  if (state_->steps.empty()) return invalid_argument("module {}: nothing to run", module.name);
  proto::Plan plan;
  plan.set_format_version(proto::kFormatVersion);
  ABQ_ASSIGN_OR_RETURN(*plan.mutable_model(), model_info(module));
  int64_t weights = 0;
  for (const auto& [blob, count] : state_->weights)
    weights += count;
  plan.mutable_model()->set_weights(weights);
  plan_slots(state_->steps, &state_->buffers);
  plan.mutable_steps()->Assign(state_->steps.begin(), state_->steps.end());
  plan.mutable_buffers()->Assign(state_->buffers.begin(), state_->buffers.end());
  plan.mutable_blobs()->Assign(state_->blobs.blobs().begin(), state_->blobs.blobs().end());
  return plan;
}

const std::map<std::string, std::string>& PlanBuilder::kernels() const {
  return state_->kernels;
}

}  // namespace abq::backend
