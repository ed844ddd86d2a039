#include "runtime/cuda/cudnn/fused_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <vector>

#include "runtime/cuda/cudnn/attention_plan.h"

namespace abq::runtime::cuda {
namespace {

// A plan and what its last run was bound to.
struct Prepared {
  explicit Prepared(FusedAttentionPlan made) : plan(std::move(made)) {}

  FusedAttentionPlan plan;
  FusedAttentionBuffers bound;
  std::optional<CudnnDescriptors> binding;
  cudnnBackendDescriptor_t pack = nullptr;
  float scale = 0;  // read by address when the plan runs
};

class CudnnAttention : public FusedAttention {
 public:
  CudnnAttention(const CudnnFunctions& functions, cudnnHandle_t handle)
      : functions_(functions), handle_(handle) {}
  ~CudnnAttention() override {
    prepared_.clear();
    (void)functions_.destroy(handle_);
  }

  std::string version() const override { return cudnn_version_text(functions_.version()); }
  int64_t workspace_bytes() const override { return workspace_bytes_; }

  Status prepare(const FusedAttentionShape& shape) override {
    if (prepared_.contains(shape)) return {};
    if (const auto found = refused_.find(shape); found != refused_.end()) return found->second;
    Result<FusedAttentionPlan> plan = FusedAttentionPlan::create(functions_, shape, handle_);
    if (!plan.ok()) return refused_.emplace(shape, plan.status()).first->second;
    workspace_bytes_ = std::max(workspace_bytes_, plan->workspace_bytes());
    Prepared& prepared = prepared_.emplace(shape, std::move(plan).value()).first->second;
    prepared.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.head_dim)));
    return {};
  }

  Status run(const FusedAttentionShape& shape, const FusedAttentionBuffers& buffers,
             cudaStream_t stream) override {
    const int64_t planned = workspace_bytes_;
    ABQ_RETURN_IF_ERROR(prepare(shape));
    if (workspace_bytes_ > planned)
      return internal_error(
          "cuDNN attention: a shape that was not prepared needs {} bytes of "
          "workspace, planned are {}",
          workspace_bytes_, planned);
    Prepared& prepared = prepared_.at(shape);
    if (!prepared.binding || prepared.bound != buffers)
      ABQ_RETURN_IF_ERROR(bind(shape, prepared, buffers));
    if (stream != stream_) {
      ABQ_RETURN_IF_ERROR(check(functions_.set_stream(handle_, stream), "stream"));
      stream_ = stream;
    }
    return check(functions_.execute(handle_, prepared.plan.descriptor(), prepared.pack),
                 "attention");
  }

 private:
  Status check(cudnnStatus_t status, std::string_view what) const {
    if (status == CUDNN_STATUS_SUCCESS) return {};
    return cudnn_failure(functions_, status, what);
  }

  Status bind(const FusedAttentionShape& shape, Prepared& prepared,
              const FusedAttentionBuffers& buffers) {
    std::vector<int64_t> ids;
    std::vector<const void*> pointers;
    const auto add = [&](FusedTensor tensor, const void* pointer) {
      ids.push_back(static_cast<int64_t>(tensor));
      pointers.push_back(pointer);
    };
    add(FusedTensor::kQueries, buffers.queries);
    add(FusedTensor::kKeys, buffers.keys);
    add(FusedTensor::kValues, buffers.values);
    add(FusedTensor::kOutput, buffers.output);
    add(FusedTensor::kChunk, buffers.chunk);
    add(FusedTensor::kTokens, buffers.tokens);
    add(FusedTensor::kScale, &prepared.scale);
    add(FusedTensor::kMasked, &kMasked);
    if (shape.query_scales) add(FusedTensor::kQueryScales, buffers.query_scales);
    if (shape.key_scales) add(FusedTensor::kKeyScales, buffers.key_scales);
    CudnnDescriptors& d = prepared.binding.emplace(functions_);
    const cudnnBackendDescriptor_t pack = d.create(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    d.set(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64,
          std::span<const int64_t>(ids));
    d.set(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
          std::span<const void* const>(pointers));
    d.set(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, buffers.workspace);
    d.finalize(pack, "buffers of attention");
    if (!d.status().ok()) {
      const Status status = d.status();
      prepared.binding.reset();
      return status;
    }
    prepared.pack = pack;
    prepared.bound = buffers;
    return {};
  }

  static constexpr float kMasked = -std::numeric_limits<float>::infinity();

  const CudnnFunctions& functions_;
  cudnnHandle_t handle_;
  cudaStream_t stream_ = nullptr;
  std::map<FusedAttentionShape, Prepared> prepared_;
  std::map<FusedAttentionShape, Status> refused_;
  int64_t workspace_bytes_ = 0;
};

}  // namespace

Result<std::unique_ptr<FusedAttention>> FusedAttention::create() {
  ABQ_ASSIGN_OR_RETURN(const CudnnFunctions* functions, cudnn_functions());
  cudnnHandle_t handle = nullptr;
  if (const cudnnStatus_t status = functions->create(&handle); status != CUDNN_STATUS_SUCCESS)
    return cudnn_failure(*functions, status, "handle");
  return std::unique_ptr<FusedAttention>(std::make_unique<CudnnAttention>(*functions, handle));
}

Result<std::string> cudnn_version() {
  ABQ_ASSIGN_OR_RETURN(const CudnnFunctions* functions, cudnn_functions());
  return cudnn_version_text(functions->version());
}

}  // namespace abq::runtime::cuda
