// Which attention a prompt's chunk gets: ours, or cuDNN's where the machine has it, takes the layer
// and is faster by measured times.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <span>
#include <string>

#include "runtime/cuda/attention/fused_prefill.h"
#include "runtime/program.h"

namespace abq::runtime::cuda {

class PrefillChoice {
 public:
  // Makes a FusedAttention with plans for the layers, on a thread of its own.
  using Open = std::function<Result<std::unique_ptr<FusedAttention>>()>;

  // Starts `open` where the layers can go through cuDNN and, unless it is asked for, there are
  // enough of them to be worth its loading. With kCudnn waits for it and returns its error.
  Status start(PrefillAttention wish, std::span<const AttentionLayer> layers, const Open& open);

  // What runs this chunk, prepared for its shape; null: prefill_attention(). The same for the same
  // arguments, however long opening takes: it is waited for.
  FusedAttention* operator()(const AttentionLayer& layer, int64_t m, int64_t tokens);
  // Once: why cuDNN was not used where the rule wanted it.
  std::string take_notice();

 private:
  FusedAttention* opened();
  void refuse(const Status& status);

  PrefillAttention wish_ = PrefillAttention::kOwn;
  std::future<Result<std::unique_ptr<FusedAttention>>> opening_;
  std::unique_ptr<FusedAttention> fused_;
  std::string refused_;  // the first reason
  bool told_ = false;
};

// Opens cuDNN on device 0 and makes the plans of these layers for chunks of up to `chunk` tokens.
Result<std::unique_ptr<FusedAttention>> open_fused_attention(std::span<const AttentionLayer> layers,
                                                             int64_t chunk);

}  // namespace abq::runtime::cuda
