#include "frontend/model_family.h"

#include <algorithm>

namespace abq::frontend {
namespace {

constexpr DecoderTensorNames kLlamaTensors = {
    .embedding = "model.embed_tokens.weight",
    .layer_prefix = "model.layers.",
    .input_norm = "model.layers.{}.input_layernorm.weight",
    .query = "model.layers.{}.self_attn.q_proj.weight",
    .key = "model.layers.{}.self_attn.k_proj.weight",
    .value = "model.layers.{}.self_attn.v_proj.weight",
    .output = "model.layers.{}.self_attn.o_proj.weight",
    .post_norm = "model.layers.{}.post_attention_layernorm.weight",
    .gate = "model.layers.{}.mlp.gate_proj.weight",
    .up = "model.layers.{}.mlp.up_proj.weight",
    .down = "model.layers.{}.mlp.down_proj.weight",
    .final_norm = "model.norm.weight",
    .head = "lm_head.weight",
};

}  // namespace

const std::vector<ModelFamily>& model_families() {
  static const std::vector<ModelFamily> families = {
      {.architecture = "LlamaForCausalLM",
       .name = "llama",
       .tensors = kLlamaTensors,
       .sliding_window = false,
       .ignorable_suffixes = {".rotary_emb.inv_freq"}},
      {.architecture = "MistralForCausalLM",
       .name = "mistral",
       .tensors = kLlamaTensors,
       .sliding_window = true,
       .ignorable_suffixes = {".rotary_emb.inv_freq"}},
  };
  return families;
}

const ModelFamily* find_model_family(std::string_view architecture) {
  const std::vector<ModelFamily>& families = model_families();
  const auto row = std::find_if(families.begin(), families.end(), [&](const ModelFamily& family) {
    return family.architecture == architecture;
  });
  return row == families.end() ? nullptr : &*row;
}

std::vector<std::string_view> known_architectures() {
  std::vector<std::string_view> names;
  for (const ModelFamily& family : model_families()) {
    names.push_back(family.architecture);
  }
  return names;
}

std::string layer_tensor_name(std::string_view pattern, int64_t layer) {
  return fmt::format(fmt::runtime(pattern), layer);
}

}  // namespace abq::frontend
