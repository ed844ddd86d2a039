// One row per model family: which architecture string it answers to, how its checkpoints name their
// tensors, and the traits that its graph depends on. docs/adding_a_model.md is the checklist.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "support/status.h"

namespace abq::frontend {

// Names in a checkpoint; per-layer patterns have the layer number at "{}".
struct DecoderTensorNames {
  std::string_view embedding;
  std::string_view layer_prefix;  // of every tensor of layer i: what precedes the number
  std::string_view input_norm;
  std::string_view query;
  std::string_view key;
  std::string_view value;
  std::string_view output;
  std::string_view post_norm;
  std::string_view gate;
  std::string_view up;
  std::string_view down;
  std::string_view final_norm;
  std::string_view head;  // absent from the checkpoint when the embeddings are tied
};

struct ModelFamily {
  std::string_view architecture;  // as in config.json, "LlamaForCausalLM"
  std::string_view name;          // module attribute "family"
  DecoderTensorNames tensors;
  bool sliding_window;  // config.json's sliding_window has a meaning
  // Tensors with these endings are buffers that other tools save and that the graph recomputes.
  std::vector<std::string_view> ignorable_suffixes;
};

const std::vector<ModelFamily>& model_families();
// nullptr when no row answers to `architecture`.
const ModelFamily* find_model_family(std::string_view architecture);
std::vector<std::string_view> known_architectures();

// The pattern with `layer` in place of "{}".
std::string layer_tensor_name(std::string_view pattern, int64_t layer);

}  // namespace abq::frontend
