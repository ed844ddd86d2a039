// The weight files of a Hugging Face model folder: model.safetensors, or shards named by
// model.safetensors.index.json.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "frontend/safetensors.h"
#include "ir/types.h"
#include "support/status.h"

namespace abq::frontend {

class CheckpointFiles {
 public:
  // Opens all weight files and checks that index and shards agree: every shard is there and named
  // by the index, every tensor is in exactly one shard, the one the index gives. NotFound for a
  // missing file, Corrupt for a contradiction, Unsupported for folders with other weight formats
  // only.
  static Result<CheckpointFiles> open(const std::string& model_dir);

  // Weight files in the order of their names.
  const std::vector<SafetensorsFile>& files() const { return files_; }
  // Path of the index; empty for a single file.
  const std::string& index_path() const { return index_path_; }
  // All tensor names, sorted, each with the position of its file in files().
  const std::map<std::string, size_t>& tensors() const { return tensors_; }

  bool contains(const std::string& name) const { return tensors_.contains(name); }
  // As SafetensorsFile::tensor.
  Result<ir::Tensor> tensor(const std::string& name) const;

 private:
  Status add_file(const std::string& path);

  std::string index_path_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t> tensors_;
};

}  // namespace abq::frontend
