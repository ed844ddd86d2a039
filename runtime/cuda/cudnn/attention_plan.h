// How cuDNN runs an attention graph on the device of a handle.
#pragma once

#include <vector>

#include "runtime/cuda/cudnn/attention_graph.h"

namespace abq::runtime::cuda {

class FusedAttentionPlan {
 public:
  // With the first engine of those that cuDNN proposes that takes it. Unsupported: what it has no
  // engine for.
  static Result<FusedAttentionPlan> create(const CudnnFunctions& functions,
                                           const FusedAttentionShape& shape, cudnnHandle_t handle);
  cudnnBackendDescriptor_t descriptor() const { return plan_; }
  int64_t workspace_bytes() const { return workspace_bytes_; }

 private:
  explicit FusedAttentionPlan(const CudnnFunctions& functions) : descriptors_(functions) {}
  Status build(const FusedAttentionShape& shape, cudnnHandle_t handle);
  // What the heuristic proposes for the graph, the best first.
  Result<std::vector<cudnnBackendDescriptor_t>> propose(cudnnBackendDescriptor_t graph);

  CudnnDescriptors descriptors_;
  cudnnBackendDescriptor_t plan_ = nullptr;
  int64_t workspace_bytes_ = 0;
};

}  // namespace abq::runtime::cuda
