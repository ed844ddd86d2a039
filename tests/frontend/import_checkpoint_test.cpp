#include <doctest/doctest.h>

#include "frontend/frontend.h"
#include "ir/verifier.h"
#include "tests/frontend/model_folder.h"

using namespace abq;
using namespace abq::frontend;
using namespace abq::frontend::testing;
using nlohmann::json;

namespace {

Status import(const ModelFolder& folder) {
  return import_checkpoint(folder.path()).status();
}

std::vector<std::string> node_names(const ir::Region& region) {
  std::vector<std::string> names;
  for (const ir::Node& node : region.nodes) {
    if (node.op != ir::Op::kWeight) names.push_back(node.name);
  }
  return names;
}

const ir::Node& find_node(const ir::Region& region, std::string_view name) {
  for (const ir::Node& node : region.nodes) {
    if (node.name == name) return node;
  }
  FAIL("no node ", std::string(name));
  return region.nodes.front();
}

}  // namespace

TEST_CASE("the bundled model becomes a module that the verifier accepts") {
  const auto checkpoint = import_checkpoint(ABQ_TEST_DATA_DIR "/tiny-llama");
  INFO(checkpoint.status().to_string());
  REQUIRE(checkpoint.ok());
  const ir::Module& module = checkpoint->module;
  CHECK(ir::verify(module).ok());
  CHECK(module.int_attribute("vocab_size") == 1024);
  CHECK(module.int_attribute("hidden_size") == 128);
  CHECK(module.int_attribute("intermediate_size") == 384);
  CHECK(module.int_attribute("layers") == 2);
  CHECK(module.int_attribute("heads") == 4);
  CHECK(module.int_attribute("kv_heads") == 2);
  CHECK(module.int_attribute("head_dim") == 32);
  CHECK(module.int_attribute("context") == 512);
  CHECK(module.int_attribute("tie_embeddings") == 1);
  CHECK(std::get<std::string>(module.attributes.at("family")) == "llama");
  REQUIRE(module.regions.size() == 4);
  CHECK(module.regions[0].name == "embed");
  CHECK(module.regions[1].name == "layers.0");
  CHECK(module.regions[2].name == "layers.1");
  CHECK(module.regions[3].name == "head");
  // 20 tensors of the checkpoint and the frequencies.
  CHECK(module.tensors.size() == 21);
  CHECK(module.tensors.at("rope.inverse_frequencies").type.shape == std::vector<int64_t>{16});
}

TEST_CASE("a block's nodes have their stable names, in execution order") {
  const auto checkpoint = import_checkpoint(ABQ_TEST_DATA_DIR "/tiny-llama");
  REQUIRE(checkpoint.ok());
  const ir::Region& block = checkpoint->module.regions[2];
  CHECK(node_names(block) ==
        std::vector<std::string>{
            "layers.1.input_norm", "layers.1.attn.q", "layers.1.attn.k", "layers.1.attn.v",
            "layers.1.attn.q_rope", "layers.1.attn.k_rope", "layers.1.attn.attention",
            "layers.1.attn.o", "layers.1.attn.residual", "layers.1.post_norm", "layers.1.mlp.gate",
            "layers.1.mlp.up", "layers.1.mlp.act", "layers.1.mlp.down", "layers.1.mlp.residual"});
  const ir::Node& attention = find_node(block, "layers.1.attn.attention");
  CHECK(attention.int_attribute("layer") == 1);
  CHECK(attention.int_attribute("window") == 0);
  CHECK(attention.int_attribute("query_bits") == 16);
  CHECK(attention.int_attribute("kv_bits") == 16);
  const ir::Region& head = checkpoint->module.regions[3];
  const ir::Node& logits = find_node(head, "head.logits");
  CHECK(checkpoint->module.weight_name(head, logits.operands[1]) == "model.embed_tokens.weight");
}

TEST_CASE("inputs are listed with size and digest, and change with the files") {
  const ModelFolder folder;
  const auto before = import_checkpoint(folder.path());
  REQUIRE(before.ok());
  std::vector<std::string> names;
  for (const Checkpoint::InputFile& input : before->inputs) {
    names.push_back(input.name);
    CHECK(input.digest.size() == 32);
    CHECK(input.size == static_cast<int64_t>(folder.read(input.name).size()));
  }
  CHECK(names == std::vector<std::string>{"config.json", "generation_config.json", "tokenizer.json",
                                          "model.safetensors"});
  folder.set_field("initializer_range", 0.5);
  StoredTensors tensors = folder.tensors();
  tensors["model.norm.weight"].bytes[0] ^= 1;
  folder.set_tensors(tensors);
  const auto after = import_checkpoint(folder.path());
  REQUIRE(after.ok());
  CHECK(before->inputs[0].digest != after->inputs[0].digest);
  CHECK(before->inputs[2].digest == after->inputs[2].digest);
  CHECK(weights_digest(before->module) != weights_digest(after->module));
}

TEST_CASE("an untied model has a head of its own, and must have it") {
  const ModelFolder folder;
  folder.set_field("tie_word_embeddings", false);
  expect_error(import(folder), StatusCode::kNotFound, {"lm_head.weight: not in the checkpoint"});
  StoredTensors tensors = folder.tensors();
  tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"];
  folder.set_tensors(tensors);
  const auto checkpoint = import_checkpoint(folder.path());
  REQUIRE(checkpoint.ok());
  CHECK(checkpoint->module.int_attribute("tie_embeddings") == 0);
  CHECK(checkpoint->module.tensors.contains("lm_head.weight"));
  CHECK(checkpoint->ignored_tensors.empty());
}

TEST_CASE("rotary buffers and the copy of a tied head are left out and reported") {
  const ModelFolder folder;
  StoredTensors tensors = folder.tensors();
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {"F32", {1}, "1234"};
  tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"];
  folder.set_tensors(tensors);
  const auto checkpoint = import_checkpoint(folder.path());
  REQUIRE(checkpoint.ok());
  CHECK(checkpoint->ignored_tensors ==
        std::vector<std::string>{"lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"});
  CHECK(checkpoint->module.tensors.size() == 21);
}

TEST_CASE("a tensor that the graph has no place for is refused, not left out") {
  for (const char* name : {"model.layers.0.self_attn.q_proj.bias", "model.extra.weight",
                           "model.layers.x.mlp.up_proj.weight"}) {
    const ModelFolder folder;
    StoredTensors tensors = folder.tensors();
    tensors[name] = {"F32", {1}, "1234"};
    folder.set_tensors(tensors);
    expect_error(import(folder), StatusCode::kUnsupported,
                 {std::string(name) + ": LlamaForCausalLM has no place for this tensor"});
  }
}

TEST_CASE("more or fewer layers than config.json says are refused") {
  const ModelFolder folder;
  folder.set_field("num_hidden_layers", 1);
  expect_error(import(folder), StatusCode::kInvalidArgument,
               {"model.layers.1.", "config.json says num_hidden_layers 1", "has layer 1"});
  folder.set_field("num_hidden_layers", 3);
  expect_error(import(folder), StatusCode::kNotFound,
               {"model.layers.2.input_layernorm.weight: not in the checkpoint"});
}

TEST_CASE("a missing tensor is named") {
  const ModelFolder folder;
  StoredTensors tensors = folder.tensors();
  tensors.erase("model.layers.1.mlp.up_proj.weight");
  folder.set_tensors(tensors);
  expect_error(import(folder), StatusCode::kNotFound,
               {"model.layers.1.mlp.up_proj.weight: not in the checkpoint"});
}

TEST_CASE("a tensor of the wrong shape is refused with both shapes") {
  const ModelFolder folder;
  StoredTensors tensors = folder.tensors();
  tensors["model.layers.1.mlp.up_proj.weight"].shape = {128, 384};
  folder.set_tensors(tensors);
  expect_error(import(folder), StatusCode::kInvalidArgument,
               {"model.layers.1.mlp.up_proj.weight: expected shape [384, 128]", "got [128, 384]"});
}

TEST_CASE("a tensor of integers is refused as a weight") {
  const ModelFolder folder;
  StoredTensors tensors = folder.tensors();
  StoredTensor& norm = tensors["model.norm.weight"];
  norm = {"I8", {128}, std::string(128, '\1')};
  folder.set_tensors(tensors);
  expect_error(import(folder), StatusCode::kUnsupported, {"model.norm.weight", "dtype I8"});
  norm = {"I32", {128}, std::string(512, '\1')};
  folder.set_tensors(tensors);
  expect_error(import(folder), StatusCode::kUnsupported,
               {"model.norm.weight", "not a weight type", "expected F32, F16 or BF16"});
}

TEST_CASE("Mistral's window reaches the attention nodes") {
  const ModelFolder folder;
  folder.set_field("architectures", {"MistralForCausalLM"});
  folder.set_field("sliding_window", 64);
  const auto checkpoint = import_checkpoint(folder.path());
  REQUIRE(checkpoint.ok());
  CHECK(std::get<std::string>(checkpoint->module.attributes.at("family")) == "mistral");
  CHECK(
      find_node(checkpoint->module.regions[1], "layers.0.attn.attention").int_attribute("window") ==
      64);
}

TEST_CASE("folders that are not there, are files, or lack a config are refused") {
  const ModelFolder folder;
  expect_error(import_checkpoint(folder.file("absent")).status(), StatusCode::kNotFound,
               {"absent: no such model folder"});
  expect_error(import_checkpoint(folder.file("config.json")).status(), StatusCode::kInvalidArgument,
               {"expected a model folder, got a file"});
  folder.write("generation_config.json", "{");
  expect_error(import(folder), StatusCode::kInvalidArgument,
               {"generation_config.json: not valid JSON"});
  folder.remove("config.json");
  expect_error(import(folder), StatusCode::kNotFound, {"config.json: no such file"});
}
