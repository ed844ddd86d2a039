// Attention of prompts on a device whose code lives in a library of its own: what
// `abq bench --attention` times.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "support/status.h"

namespace abq::runtime {

// m tokens of one sequence behind `past` tokens in its cache.
struct AttentionProblem {
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int query_bits = 16;
  int kv_bits = 16;
  int64_t m = 0;
  int64_t past = 0;
};

// Microseconds of everything between projected queries, keys and values and the result: rotation,
// quantization, cache, attention. Medians of graph replays over cold caches.
struct AttentionTiming {
  double own_us = 0;
  double cudnn_us = 0;        // 0: not there
  std::string cudnn_missing;  // why
  double difference = 0;      // |own - cuDNN| / |own|, Euclidean, of the results
  bool chooses_cudnn = false;
};

class DeviceAttention {
 public:
  virtual ~DeviceAttention() = default;
  virtual std::string_view description() const = 0;  // "cuDNN 9.19.0", or why there is none
  virtual Result<AttentionTiming> time(const AttentionProblem& problem) = 0;
};

// The first GPU. The errors of create_cuda_device_engine.
Result<std::unique_ptr<DeviceAttention>> create_cuda_device_attention();

}  // namespace abq::runtime
