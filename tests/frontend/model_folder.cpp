#include "tests/frontend/model_folder.h"

#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace abq::frontend::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kLengthBytes = 8;
constexpr const char* kModelName = "model.safetensors";

}  // namespace

ModelFolder::ModelFolder() {
  std::string pattern = (fs::temp_directory_path() / "abq-frontend-XXXXXX").string();
  REQUIRE(::mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
  for (const char* name : {"config.json", "generation_config.json", "tokenizer.json", kModelName}) {
    fs::copy_file(fs::path(ABQ_TEST_DATA_DIR) / "tiny-llama" / name, file(name));
    fs::permissions(file(name), fs::perms::owner_write, fs::perm_options::add);
  }
}

ModelFolder::~ModelFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string ModelFolder::read(std::string_view name) const {
  std::ifstream stream(file(name), std::ios::binary);
  REQUIRE(stream.good());
  return {std::istreambuf_iterator<char>(stream), {}};
}

void ModelFolder::write(std::string_view name, std::string_view bytes) const {
  std::ofstream stream(file(name), std::ios::binary | std::ios::trunc);
  stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  REQUIRE(stream.good());
}

void ModelFolder::remove(std::string_view name) const {
  REQUIRE(fs::remove(file(name)));
}

json ModelFolder::config() const {
  return json::parse(read("config.json"));
}

void ModelFolder::set_config(const json& config) const {
  write("config.json", config.dump(2));
}

void ModelFolder::set_field(const char* key, const json& value) const {
  json changed = config();
  changed[key] = value;
  set_config(changed);
}

void ModelFolder::erase_field(const char* key) const {
  json changed = config();
  changed.erase(key);
  set_config(changed);
}

StoredTensors ModelFolder::tensors() const {
  return parse_safetensors(read(kModelName));
}

void ModelFolder::set_tensors(const StoredTensors& tensors) const {
  write(kModelName, safetensors_bytes(tensors));
}

json ModelFolder::split_into_shards() const {
  StoredTensors first;
  StoredTensors second;
  json index = {{"metadata", {{"total_size", 0}}}, {"weight_map", json::object()}};
  for (const auto& [name, tensor] : tensors()) {
    const bool late = name.starts_with("model.layers.1.");
    (late ? second : first)[name] = tensor;
    index["weight_map"][name] = late ? kSecondShard : kFirstShard;
  }
  write(kFirstShard, safetensors_bytes(first));
  write(kSecondShard, safetensors_bytes(second));
  set_index(index);
  remove(kModelName);
  return index;
}

void ModelFolder::set_index(const json& index) const {
  write(kIndexName, index.dump());
}

StoredTensors parse_safetensors(std::string_view bytes) {
  size_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) {
    length = length << 8 | static_cast<unsigned char>(bytes[i]);
  }
  const json header = json::parse(bytes.substr(kLengthBytes, length));
  const std::string_view data = bytes.substr(kLengthBytes + length);
  StoredTensors tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const size_t begin = entry["data_offsets"][0];
    const size_t end = entry["data_offsets"][1];
    tensors[name] = {entry["dtype"], entry["shape"], std::string(data.substr(begin, end - begin))};
  }
  return tensors;
}

std::string safetensors_bytes(std::string_view header, std::string_view data) {
  std::string bytes;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    bytes.push_back(static_cast<char>(header.size() >> (8 * i) & 0xff));
  }
  return bytes.append(header).append(data);
}

std::string safetensors_bytes(const StoredTensors& tensors) {
  json header = json::object();
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.dtype},
                    {"shape", tensor.shape},
                    {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  return safetensors_bytes(text, data);
}

void expect_error(const Status& status, StatusCode code, const std::vector<std::string>& parts) {
  INFO(status.to_string());
  CHECK(status.code() == code);
  for (const std::string& part : parts) {
    INFO("expected in the message: ", part);
    CHECK(status.message().find(part) != std::string::npos);
  }
}

}  // namespace abq::frontend::testing
