#include "frontend/checkpoint_files.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string_view>

#include "frontend/json.h"

namespace abq::frontend {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";

std::string join(const std::string& folder, std::string_view name) {
  return (fs::path(folder) / name).string();
}

bool exists(const std::string& path) {
  std::error_code ignored;  // an unreadable folder reads as "not there"; opening says why
  return fs::exists(path, ignored);
}

// "model-00001-of-00003.safetensors": files that claim to be a part of this checkpoint. Others
// (adapters, goldens, other formats' copies of the weights) are none of our business.
bool is_shard_name(std::string_view name) {
  return name.starts_with("model-") && name.ends_with(".safetensors") &&
         name.find("-of-") != std::string_view::npos;
}

Result<std::set<std::string>> shard_files(const std::string& model_dir) {
  std::set<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(model_dir, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (is_shard_name(name)) names.insert(name);
  }
  if (error) return io_error("{}: cannot list the folder: {}", model_dir, error.message());
  return names;
}

// A shard name must stay inside the model folder.
bool is_plain_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

// tensor name -> shard name
using WeightMap = std::map<std::string, std::string>;

Result<WeightMap> read_index(const std::string& path) {
  ABQ_ASSIGN_OR_RETURN(const std::string text, read_text_file(path));
  ABQ_ASSIGN_OR_RETURN(const Json index, parse_json_object(text, path, StatusCode::kCorrupt));
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object()) {
    return corrupt("{}: weight_map is missing or not an object", path);
  }
  WeightMap weights;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string()) {
      return corrupt("{}: {}: expected the name of a shard, got {}", path, tensor, describe(shard));
    }
    const auto& name = shard.get_ref<const std::string&>();
    if (!is_plain_file_name(name)) {
      return corrupt("{}: {}: shard {} is not a plain file name", path, tensor, describe(shard));
    }
    weights.emplace(tensor, name);
  }
  if (weights.empty()) return corrupt("{}: weight_map names no tensors", path);
  return weights;
}

Status no_weights(const std::string& model_dir) {
  ABQ_ASSIGN_OR_RETURN(const std::set<std::string> shards, shard_files(model_dir));
  if (!shards.empty()) {
    return not_found("{}: has {} but no {}; download the index too", model_dir, *shards.begin(),
                     kIndexFile);
  }
  for (const char* other : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    if (exists(join(model_dir, other))) {
      return unsupported("{}: has {} but no safetensors; save the model as safetensors first",
                         model_dir, other);
    }
  }
  return not_found("{}: has neither {} nor {}", model_dir, kSingleFile, kIndexFile);
}

Status check_no_extra_shard(const std::string& model_dir, const std::set<std::string>& indexed) {
  ABQ_ASSIGN_OR_RETURN(std::set<std::string> present, shard_files(model_dir));
  if (exists(join(model_dir, kSingleFile))) present.insert(std::string(kSingleFile));
  for (const std::string& name : present) {
    if (!indexed.contains(name)) {
      return corrupt("{}: not named in {}; remove it, or fetch the index that belongs to it",
                     join(model_dir, name), kIndexFile);
    }
  }
  return {};
}

}  // namespace

Status CheckpointFiles::add_file(const std::string& path) {
  ABQ_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::open(path));
  for (const auto& [name, entry] : file.entries()) {
    const auto [item, inserted] = tensors_.emplace(name, files_.size());
    if (!inserted) {
      return corrupt("{}: stored twice, in {} and in {}", name, files_[item->second].path(), path);
    }
  }
  files_.push_back(std::move(file));
  return {};
}

Result<CheckpointFiles> CheckpointFiles::open(const std::string& model_dir) {
  CheckpointFiles files;
  const std::string index_path = join(model_dir, kIndexFile);
  if (!exists(index_path)) {
    const std::string single = join(model_dir, kSingleFile);
    if (!exists(single)) return no_weights(model_dir);
    ABQ_RETURN_IF_ERROR(files.add_file(single));
    return files;
  }
  files.index_path_ = index_path;
  ABQ_ASSIGN_OR_RETURN(const WeightMap weights, read_index(index_path));
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : weights) {
    shards.insert(shard);
  }
  ABQ_RETURN_IF_ERROR(check_no_extra_shard(model_dir, shards));
  for (const std::string& shard : shards) {
    const std::string path = join(model_dir, shard);
    if (!exists(path)) {
      return not_found("{}: shard is missing, but {} names it", path, kIndexFile);
    }
    ABQ_RETURN_IF_ERROR(files.add_file(path));
  }
  for (const auto& [tensor, file] : files.tensors_) {
    if (!weights.contains(tensor)) {
      return corrupt("{}: stored in {}, but missing from {}", tensor, files.files_[file].path(),
                     kIndexFile);
    }
  }
  for (const auto& [tensor, shard] : weights) {
    const auto item = files.tensors_.find(tensor);
    const std::string path = join(model_dir, shard);
    if (item == files.tensors_.end() || files.files_[item->second].path() != path) {
      return corrupt("{}: {} places it in {}, which does not have it", tensor, kIndexFile, shard);
    }
  }
  return files;
}

Result<ir::Tensor> CheckpointFiles::tensor(const std::string& name) const {
  const auto item = tensors_.find(name);
  if (item == tensors_.end()) return not_found("{}: not in the checkpoint", name);
  return files_[item->second].tensor(name);
}

}  // namespace abq::frontend
