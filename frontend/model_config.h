// config.json of a Hugging Face decoder model, in the old spelling (rope_theta, rope_scaling) and
// the new one (rope_parameters).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "frontend/model_family.h"
#include "frontend/rope_frequencies.h"
#include "support/status.h"

namespace abq::frontend {

// Every field is in range: products of two dimensions fit int64, heads is a multiple of kv_heads,
// head_dim is even.
struct ModelConfig {
  const ModelFamily* family = nullptr;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t context = 0;  // max_position_embeddings
  int64_t window = 0;   // sliding window of attention in tokens; 0 = none
  double rms_norm_eps = 0.0;
  bool tie_embeddings = false;
  RopeConfig rope;
};

// `name` is the subject of errors. InvalidArgument for malformed JSON and missing, mistyped or
// contradictory fields; Unsupported for architectures and features that no importer handles.
Result<ModelConfig> parse_model_config(std::string_view text, const std::string& name);

}  // namespace abq::frontend
