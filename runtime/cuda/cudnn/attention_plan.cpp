#include "runtime/cuda/cudnn/attention_plan.h"

#include <algorithm>

namespace abq::runtime::cuda {
namespace {

using Descriptor = cudnnBackendDescriptor_t;

constexpr int64_t kMostProposals = 8;

}  // namespace

Result<FusedAttentionPlan> FusedAttentionPlan::create(const CudnnFunctions& functions,
                                                      const FusedAttentionShape& shape,
                                                      cudnnHandle_t handle) {
  FusedAttentionPlan plan(functions);
  ABQ_RETURN_IF_ERROR(plan.build(shape, handle));
  return plan;
}

Result<std::vector<Descriptor>> FusedAttentionPlan::propose(Descriptor graph) {
  CudnnDescriptors& d = descriptors_;
  const Descriptor heuristic = d.create(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  d.link(heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  d.set(heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_INSTANT);
  d.finalize(heuristic, "engines for attention");
  std::vector<Descriptor> found;
  for (int64_t i = 0; i < kMostProposals; ++i)
    found.push_back(d.create(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
  ABQ_RETURN_IF_ERROR(d.status());
  int64_t count = 0;
  const cudnnStatus_t status = d.functions().get_attribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                           CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                                           kMostProposals, &count, found.data());
  if (status != CUDNN_STATUS_SUCCESS)
    return cudnn_failure(d.functions(), status, "engines for attention");
  found.resize(static_cast<size_t>(std::min(count, kMostProposals)));
  return found;
}

Status FusedAttentionPlan::build(const FusedAttentionShape& shape, cudnnHandle_t handle) {
  const Descriptor graph = make_attention_graph(shape, handle, descriptors_);
  ABQ_RETURN_IF_ERROR(descriptors_.status());
  ABQ_ASSIGN_OR_RETURN(const std::vector<Descriptor> proposals, propose(graph));
  Status refused = unsupported("cudnn: no engine for attention with {} query and {} kv heads of {}",
                               shape.heads, shape.kv_heads, shape.head_dim);
  for (const Descriptor proposal : proposals) {
    CudnnDescriptors attempt(descriptors_.functions());
    const Descriptor plan = attempt.create(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    attempt.link(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, proposal);
    attempt.set(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, handle);
    attempt.finalize(plan, "plan of attention");
    if (!attempt.status().ok()) {
      refused = attempt.status();
      continue;
    }
    int64_t count = 0;
    const cudnnStatus_t status =
        descriptors_.functions().get_attribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                               CUDNN_TYPE_INT64, 1, &count, &workspace_bytes_);
    if (status != CUDNN_STATUS_SUCCESS)
      return cudnn_failure(descriptors_.functions(), status, "workspace of attention");
    descriptors_.take(std::move(attempt));
    plan_ = plan;
    return {};
  }
  return refused;
}

}  // namespace abq::runtime::cuda
