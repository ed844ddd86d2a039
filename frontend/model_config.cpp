#include "frontend/model_config.h"

#include <fmt/ranges.h>

#include "frontend/json.h"

namespace abq::frontend {
namespace {

// Far above any model, low enough that a product of three dimensions stays inside int64.
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxHidden = int64_t{1} << 20;
constexpr int64_t kMaxIntermediate = int64_t{1} << 22;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 4096;
constexpr int64_t kMaxContext = int64_t{1} << 24;  // what the plan reader takes
constexpr double kMaxTheta = 1e15;
constexpr double kMaxFactor = 1e6;
constexpr double kDefaultTheta = 10000.0;  // of checkpoints older than the field

Result<const ModelFamily*> read_family(const FieldReader& config) {
  const Json* names = config.find("architectures");
  if (names == nullptr || !names->is_array() || names->size() != 1 || !names->front().is_string()) {
    return invalid_argument("{}: architectures: expected a list of one name, got {}",
                            config.subject(), names == nullptr ? "nothing" : describe(*names));
  }
  const auto& name = names->front().get_ref<const std::string&>();
  const ModelFamily* family = find_model_family(name);
  if (family == nullptr) {
    return unsupported("{}: unknown architecture {}; known: {}", config.subject(),
                       describe(names->front()), fmt::join(known_architectures(), ", "));
  }
  return family;
}

// Features that would change the graph in ways that it has no ops for.
Status refuse_unsupported(const FieldReader& config) {
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    ABQ_ASSIGN_OR_RETURN(const bool biased, config.boolean_or(key, false));
    if (biased) {
      return unsupported("{}: {} is true; linears with bias are not supported", config.subject(),
                         key);
    }
  }
  ABQ_ASSIGN_OR_RETURN(const std::string activation, config.text("hidden_act"));
  if (activation != "silu") {
    return unsupported("{}: hidden_act {} is not supported; expected \"silu\"", config.subject(),
                       describe(Json(activation)));
  }
  if (config.has("quantization_config")) {
    return unsupported(
        "{}: the checkpoint is already quantized (quantization_config); use the float "
        "one",
        config.subject());
  }
  return {};
}

Status read_llama3(const FieldReader& fields, RopeConfig* rope) {
  rope->scaling = RopeScaling::kLlama3;
  ABQ_ASSIGN_OR_RETURN(rope->low_frequency_factor,
                       fields.number("low_freq_factor", 1e-3, kMaxFactor));
  ABQ_ASSIGN_OR_RETURN(rope->high_frequency_factor,
                       fields.number("high_freq_factor", 1e-3, kMaxFactor));
  if (rope->low_frequency_factor >= rope->high_frequency_factor) {
    return invalid_argument("{}: low_freq_factor {} must be below high_freq_factor {}",
                            fields.subject(), rope->low_frequency_factor,
                            rope->high_frequency_factor);
  }
  ABQ_ASSIGN_OR_RETURN(rope->original_context,
                       fields.integer("original_max_position_embeddings", 1, kMaxContext));
  return {};
}

// Fields of rope_scaling (old) and rope_parameters (new): {rope_type or type, factor, ...}.
Status read_rope_scaling(const FieldReader& fields, RopeConfig* rope) {
  std::string type = "default";
  for (const char* key : {"type", "rope_type"}) {  // the later spelling wins
    if (!fields.has(key)) continue;
    ABQ_ASSIGN_OR_RETURN(type, fields.text(key));
  }
  ABQ_ASSIGN_OR_RETURN(const double rotated, fields.number_or("partial_rotary_factor", 0, 1, 1));
  if (rotated != 1.0) {
    return unsupported("{}: partial_rotary_factor {} is not supported; expected 1",
                       fields.subject(), rotated);
  }
  if (type == "default") return {};
  if (type != "linear" && type != "llama3") {
    return unsupported("{}: rope_type {} is not supported; known: default, linear, llama3",
                       fields.subject(), describe(Json(type)));
  }
  ABQ_ASSIGN_OR_RETURN(rope->factor, fields.number("factor", 1.0, kMaxFactor));
  if (type == "llama3") return read_llama3(fields, rope);
  rope->scaling = RopeScaling::kLinear;
  return {};
}

Result<RopeConfig> read_rope(const FieldReader& config) {
  RopeConfig rope;
  ABQ_ASSIGN_OR_RETURN(rope.theta, config.number_or("rope_theta", 1.0, kMaxTheta, kDefaultTheta));
  ABQ_ASSIGN_OR_RETURN(const double rotated, config.number_or("partial_rotary_factor", 0, 1, 1));
  if (rotated != 1.0) {
    return unsupported("{}: partial_rotary_factor {} is not supported; expected 1",
                       config.subject(), rotated);
  }
  if (config.has("rope_parameters") && config.has("rope_scaling")) {
    return invalid_argument("{}: has both rope_parameters and rope_scaling; keep one",
                            config.subject());
  }
  if (config.has("rope_scaling")) {
    ABQ_ASSIGN_OR_RETURN(const FieldReader fields, config.object("rope_scaling"));
    ABQ_RETURN_IF_ERROR(read_rope_scaling(fields, &rope));
  }
  if (config.has("rope_parameters")) {
    ABQ_ASSIGN_OR_RETURN(const FieldReader fields, config.object("rope_parameters"));
    ABQ_ASSIGN_OR_RETURN(const double theta, fields.number("rope_theta", 1.0, kMaxTheta));
    if (config.has("rope_theta") && rope.theta != theta) {
      return invalid_argument("{}: rope_theta is {}, but rope_parameters say {}; keep one",
                              config.subject(), rope.theta, theta);
    }
    rope.theta = theta;
    ABQ_RETURN_IF_ERROR(read_rope_scaling(fields, &rope));
  }
  return rope;
}

Status read_heads(const FieldReader& config, ModelConfig* model) {
  ABQ_ASSIGN_OR_RETURN(model->heads, config.integer("num_attention_heads", 1, kMaxHeads));
  ABQ_ASSIGN_OR_RETURN(model->kv_heads,
                       config.integer_or("num_key_value_heads", 1, kMaxHeads, model->heads));
  if (model->heads % model->kv_heads != 0) {
    return invalid_argument(
        "{}: num_attention_heads {} is not a multiple of num_key_value_heads {}", config.subject(),
        model->heads, model->kv_heads);
  }
  if (!config.has("head_dim") && model->hidden_size % model->heads != 0) {
    return invalid_argument(
        "{}: hidden_size {} is not a multiple of num_attention_heads {}, and "
        "there is no head_dim",
        config.subject(), model->hidden_size, model->heads);
  }
  ABQ_ASSIGN_OR_RETURN(model->head_dim, config.integer_or("head_dim", 1, kMaxHeadDim,
                                                          model->hidden_size / model->heads));
  if (model->head_dim % 2 != 0) {
    return invalid_argument("{}: head_dim {} is odd; rotary embedding turns pairs of channels",
                            config.subject(), model->head_dim);
  }
  return {};
}

}  // namespace

Result<ModelConfig> parse_model_config(std::string_view text, const std::string& name) {
  ABQ_ASSIGN_OR_RETURN(const Json json,
                       parse_json_object(text, name, StatusCode::kInvalidArgument));
  const FieldReader config(json, name);
  ModelConfig model;
  ABQ_ASSIGN_OR_RETURN(model.family, read_family(config));
  ABQ_RETURN_IF_ERROR(refuse_unsupported(config));
  ABQ_ASSIGN_OR_RETURN(model.vocab_size, config.integer("vocab_size", 1, kMaxVocab));
  ABQ_ASSIGN_OR_RETURN(model.hidden_size, config.integer("hidden_size", 1, kMaxHidden));
  ABQ_ASSIGN_OR_RETURN(model.intermediate_size,
                       config.integer("intermediate_size", 1, kMaxIntermediate));
  ABQ_ASSIGN_OR_RETURN(model.layers, config.integer("num_hidden_layers", 1, kMaxLayers));
  ABQ_RETURN_IF_ERROR(read_heads(config, &model));
  ABQ_ASSIGN_OR_RETURN(model.context, config.integer("max_position_embeddings", 1, kMaxContext));
  ABQ_ASSIGN_OR_RETURN(model.rms_norm_eps, config.number("rms_norm_eps", 1e-12, 1.0));
  ABQ_ASSIGN_OR_RETURN(model.tie_embeddings, config.boolean_or("tie_word_embeddings", false));
  if (model.family->sliding_window) {
    ABQ_ASSIGN_OR_RETURN(model.window, config.integer_or("sliding_window", 1, kMaxContext, 0));
  }
  ABQ_ASSIGN_OR_RETURN(model.rope, read_rope(config));
  return model;
}

}  // namespace abq::frontend
