// A temporary copy of tiny-llama that a test may break.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "support/status.h"

namespace abq::frontend::testing {

// A tensor as it lies in a file.
struct StoredTensor {
  std::string dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};
using StoredTensors = std::map<std::string, StoredTensor>;

class ModelFolder {
 public:
  ModelFolder();  // config.json, generation_config.json, tokenizer.json, model.safetensors
  ~ModelFolder();
  ModelFolder(const ModelFolder&) = delete;
  ModelFolder& operator=(const ModelFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string file(std::string_view name) const { return path_ + "/" + std::string(name); }
  std::string read(std::string_view name) const;
  void write(std::string_view name, std::string_view bytes) const;
  void remove(std::string_view name) const;

  nlohmann::json config() const;
  void set_config(const nlohmann::json& config) const;
  void set_field(const char* key, const nlohmann::json& value) const;
  void erase_field(const char* key) const;

  StoredTensors tensors() const;
  void set_tensors(const StoredTensors& tensors) const;
  // Two shards, layer 1 in the second one, with their index. Returns the index's content.
  nlohmann::json split_into_shards() const;
  void set_index(const nlohmann::json& index) const;

 private:
  std::string path_;
};

inline constexpr const char* kFirstShard = "model-00001-of-00002.safetensors";
inline constexpr const char* kSecondShard = "model-00002-of-00002.safetensors";
inline constexpr const char* kIndexName = "model.safetensors.index.json";

StoredTensors parse_safetensors(std::string_view bytes);
std::string safetensors_bytes(const StoredTensors& tensors);
// A file out of its two parts: length, header text, data.
std::string safetensors_bytes(std::string_view header, std::string_view data);

// Checks that `status` has this code, and that its message contains every part.
void expect_error(const Status& status, StatusCode code, const std::vector<std::string>& parts);

}  // namespace abq::frontend::testing
