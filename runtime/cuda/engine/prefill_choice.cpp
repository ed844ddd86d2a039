#include "runtime/cuda/engine/prefill_choice.h"

#include <algorithm>

#include "runtime/cuda/cuda_status.h"

namespace abq::runtime::cuda {
namespace {

// Query columns of all layers from which on cuDNN is loaded unasked: four layers of a 7B model.
// What smaller models would gain in a prompt is far below the loading.
constexpr int64_t kFewestColumns = 16384;

}  // namespace

Status PrefillChoice::start(PrefillAttention wish, std::span<const AttentionLayer> layers,
                            const Open& open) {
  wish_ = wish;
  if (wish == PrefillAttention::kOwn) return {};
  int64_t columns = 0;
  for (const AttentionLayer& layer : layers) {
    if (fused_can_run(layer, 1)) columns += static_cast<int64_t>(layer.heads) * layer.head_dim;
  }
  if (columns == 0 || (wish == PrefillAttention::kAuto && columns < kFewestColumns)) {
    wish_ = PrefillAttention::kOwn;
    return {};
  }
  opening_ = std::async(std::launch::async, open);
  if (wish == PrefillAttention::kAuto || opened() != nullptr) return {};
  return unsupported("attention of prompts through cuDNN: {}", take_notice());
}

FusedAttention* PrefillChoice::opened() {
  if (opening_.valid()) {
    Result<std::unique_ptr<FusedAttention>> result = opening_.get();
    if (result.ok())
      fused_ = std::move(result).value();
    else
      refuse(result.status());
  }
  return fused_.get();
}

void PrefillChoice::refuse(const Status& status) {
  if (refused_.empty()) refused_ = status.message();
}

FusedAttention* PrefillChoice::operator()(const AttentionLayer& layer, int64_t m, int64_t tokens) {
  if (wish_ == PrefillAttention::kOwn) return nullptr;
  const bool wanted = wish_ == PrefillAttention::kCudnn ? fused_can_run(layer, tokens)
                                                        : fused_is_faster(layer, m, tokens);
  if (!wanted || opened() == nullptr) return nullptr;
  const Status prepared = fused_->prepare(fused_shape(layer, m));
  if (prepared.ok()) return fused_.get();
  refuse(prepared);
  return nullptr;
}

std::string PrefillChoice::take_notice() {
  if (told_ || refused_.empty()) return {};
  told_ = true;
  return refused_;
}

Result<std::unique_ptr<FusedAttention>> open_fused_attention(std::span<const AttentionLayer> layers,
                                                             int64_t chunk) {
  ABQ_RETURN_IF_CUDA_ERROR(cudaSetDevice(0), "device 0");
  ABQ_ASSIGN_OR_RETURN(std::unique_ptr<FusedAttention> fused, FusedAttention::create());
  for (const AttentionLayer& layer : layers) {
    // A layer that cuDNN refuses is ours; the answer is kept until it is asked for.
    if (fused_can_run(layer, 1)) (void)fused->prepare(fused_shape(layer, chunk));
  }
  return fused;
}

}  // namespace abq::runtime::cuda
