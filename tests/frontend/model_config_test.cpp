#include "frontend/model_config.h"

#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/frontend/model_folder.h"

using namespace abq;
using namespace abq::frontend;
using abq::frontend::testing::expect_error;
using nlohmann::json;

namespace {

json tiny_config() {
  std::ifstream stream(ABQ_TEST_DATA_DIR "/tiny-llama/config.json");
  return json::parse(stream);
}

Result<ModelConfig> parse(const json& config) {
  return parse_model_config(config.dump(), "config.json");
}

// tiny-llama's config with one field changed (null: as if absent).
Result<ModelConfig> parse_with(const char* key, const json& value) {
  json config = tiny_config();
  config[key] = value;
  return parse(config);
}

}  // namespace

TEST_CASE("the bundled model's config is read in full") {
  const auto config = parse(tiny_config());
  REQUIRE(config.ok());
  CHECK(config->family->name == "llama");
  CHECK(config->vocab_size == 1024);
  CHECK(config->hidden_size == 128);
  CHECK(config->intermediate_size == 384);
  CHECK(config->layers == 2);
  CHECK(config->heads == 4);
  CHECK(config->kv_heads == 2);
  CHECK(config->head_dim == 32);
  CHECK(config->context == 512);
  CHECK(config->window == 0);
  CHECK(config->rms_norm_eps == 1e-5);
  CHECK(config->tie_embeddings);
  CHECK(config->rope.theta == 10000.0);
  CHECK(config->rope.scaling == RopeScaling::kNone);
}

TEST_CASE("the old spelling of rope, and defaults for fields that older checkpoints lack") {
  json config = tiny_config();
  for (const char* key : {"rope_parameters", "head_dim", "num_key_value_heads", "attention_bias",
                          "mlp_bias", "tie_word_embeddings"}) {
    config.erase(key);
  }
  auto parsed = parse(config);
  REQUIRE(parsed.ok());
  CHECK(parsed->rope.theta == 10000.0);
  CHECK(parsed->head_dim == 32);
  CHECK(parsed->kv_heads == 4);
  CHECK(!parsed->tie_embeddings);
  config["rope_theta"] = 500000;
  config["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}};
  parsed = parse(config);
  REQUIRE(parsed.ok());
  CHECK(parsed->rope.theta == 500000.0);
  CHECK(parsed->rope.scaling == RopeScaling::kLinear);
  CHECK(parsed->rope.factor == 2.0);
}

TEST_CASE("llama3 scaling is read from either spelling") {
  const json scaling = {{"rope_type", "llama3"},
                        {"factor", 8.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 8192}};
  json config = tiny_config();
  config.erase("rope_parameters");
  config["rope_scaling"] = scaling;
  config["rope_theta"] = 500000.0;
  json modern = tiny_config();
  modern["rope_parameters"] = scaling;
  modern["rope_parameters"]["rope_theta"] = 500000.0;
  for (const auto& parsed : {parse(config), parse(modern)}) {
    REQUIRE(parsed.ok());
    CHECK(parsed->rope.theta == 500000.0);
    CHECK(parsed->rope.scaling == RopeScaling::kLlama3);
    CHECK(parsed->rope.factor == 8.0);
    CHECK(parsed->rope.original_context == 8192);
  }
  modern["rope_parameters"]["high_freq_factor"] = 1.0;
  expect_error(parse(modern).status(), StatusCode::kInvalidArgument,
               {"rope_parameters: low_freq_factor 1 must be below high_freq_factor 1"});
  modern["rope_parameters"].erase("original_max_position_embeddings");
  modern["rope_parameters"]["high_freq_factor"] = 4.0;
  expect_error(parse(modern).status(), StatusCode::kInvalidArgument,
               {"rope_parameters: original_max_position_embeddings", "missing"});
}

TEST_CASE("rope settings that are unknown or contradict each other are refused") {
  expect_error(
      parse_with("rope_parameters", {{"rope_type", "yarn"}, {"rope_theta", 1e4}, {"factor", 4}})
          .status(),
      StatusCode::kUnsupported, {R"(rope_type "yarn" is not supported; known: default, linear)"});
  expect_error(parse_with("rope_theta", 20000).status(), StatusCode::kInvalidArgument,
               {"rope_theta is 20000, but rope_parameters say 10000"});
  expect_error(parse_with("rope_scaling", {{"type", "linear"}, {"factor", 2}}).status(),
               StatusCode::kInvalidArgument, {"both rope_parameters and rope_scaling"});
  expect_error(parse_with("rope_parameters", json::object()).status(), StatusCode::kInvalidArgument,
               {"rope_parameters: rope_theta", "missing"});
  expect_error(parse_with("partial_rotary_factor", 0.5).status(), StatusCode::kUnsupported,
               {"partial_rotary_factor 0.5"});
}

TEST_CASE("Mistral's sliding window is read, null means none") {
  json config = tiny_config();
  config["architectures"] = {"MistralForCausalLM"};
  CHECK(parse(config)->family->name == "mistral");
  config["sliding_window"] = 4096;
  CHECK(parse(config)->window == 4096);
  config["sliding_window"] = nullptr;
  CHECK(parse(config)->window == 0);
  config["sliding_window"] = 0;
  expect_error(parse(config).status(), StatusCode::kInvalidArgument, {"sliding_window", "got 0"});
}

TEST_CASE("an unknown architecture is refused with the known ones") {
  expect_error(
      parse_with("architectures", {"GPT2LMHeadModel"}).status(), StatusCode::kUnsupported,
      {R"(unknown architecture "GPT2LMHeadModel")", "known: LlamaForCausalLM, MistralForCausalLM"});
  expect_error(parse_with("architectures", nullptr).status(), StatusCode::kInvalidArgument,
               {"architectures: expected a list of one name, got nothing"});
  expect_error(parse_with("architectures", {"A", "B"}).status(), StatusCode::kInvalidArgument,
               {"expected a list of one name"});
  expect_error(parse_with("architectures", {3}).status(), StatusCode::kInvalidArgument,
               {"expected a list of one name"});
}

TEST_CASE("features that would change the graph are refused by name") {
  expect_error(parse_with("attention_bias", true).status(), StatusCode::kUnsupported,
               {"attention_bias is true"});
  expect_error(parse_with("mlp_bias", true).status(), StatusCode::kUnsupported,
               {"mlp_bias is true"});
  expect_error(parse_with("hidden_act", "gelu").status(), StatusCode::kUnsupported,
               {R"(hidden_act "gelu" is not supported)"});
  expect_error(parse_with("quantization_config", {{"quant_method", "gptq"}}).status(),
               StatusCode::kUnsupported, {"already quantized"});
}

TEST_CASE("a missing field is named, for every field that has no default") {
  for (const char* key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "max_position_embeddings", "rms_norm_eps", "hidden_act"}) {
    json config = tiny_config();
    config.erase(key);
    expect_error(parse(config).status(), StatusCode::kInvalidArgument,
                 {std::string("config.json: ") + key, "the field is missing"});
  }
}

TEST_CASE("dimensions that are not positive, absurd or of another type are refused") {
  for (const char* key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"}) {
    for (const json& value :
         {json(0), json(-4), json(int64_t{1} << 40), json(UINT64_MAX), json(1.5), json("128")}) {
      INFO(key, " = ", value.dump());
      const Status status = parse_with(key, value).status();
      expect_error(status, StatusCode::kInvalidArgument,
                   {std::string(key) + ": expected an integer from 1 to", "got " + value.dump()});
    }
  }
  expect_error(parse_with("rms_norm_eps", -1.0).status(), StatusCode::kInvalidArgument,
               {"rms_norm_eps: expected a number from"});
  expect_error(parse_with("tie_word_embeddings", "yes").status(), StatusCode::kInvalidArgument,
               {"tie_word_embeddings: expected true or false"});
}

TEST_CASE("head counts that do not fit together are refused with their numbers") {
  expect_error(parse_with("num_key_value_heads", 3).status(), StatusCode::kInvalidArgument,
               {"num_attention_heads 4 is not a multiple of num_key_value_heads 3"});
  expect_error(parse_with("num_key_value_heads", 8).status(), StatusCode::kInvalidArgument,
               {"num_attention_heads 4 is not a multiple of num_key_value_heads 8"});
  expect_error(parse_with("head_dim", 33).status(), StatusCode::kInvalidArgument,
               {"head_dim 33 is odd"});
  json config = tiny_config();
  config.erase("head_dim");
  config["num_attention_heads"] = 6;
  expect_error(parse(config).status(), StatusCode::kInvalidArgument,
               {"hidden_size 128 is not a multiple of num_attention_heads 6"});
}

TEST_CASE("a config that is no JSON is refused with the place") {
  expect_error(parse_model_config("{\"a\": ", "config.json").status(), StatusCode::kInvalidArgument,
               {"config.json: not valid JSON at line 1"});
}
