#include "frontend/input_files.h"

#include <filesystem>

#include "support/checksum.h"
#include "support/mapped_file.h"

namespace abq::frontend {
namespace {

namespace fs = std::filesystem;

std::string base_name(const std::string& path) {
  return fs::path(path).filename().string();
}

Result<Checkpoint::InputFile> whole_file(const std::string& path) {
  ABQ_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, MappedFile::open(path));
  return Checkpoint::InputFile{base_name(path), static_cast<int64_t>(file->bytes().size()),
                               digest128(file->bytes())};
}

}  // namespace

Result<std::vector<Checkpoint::InputFile>> list_input_files(const std::string& model_dir,
                                                            const CheckpointFiles& files) {
  std::vector<std::string> paths;
  for (const char* name : {"config.json", "generation_config.json"}) {
    paths.push_back((fs::path(model_dir) / name).string());
  }
  if (auto tokenizer = tokenizer::find_tokenizer(model_dir); tokenizer.ok()) {
    paths.push_back(tokenizer->path);
  }
  paths.push_back(files.index_path());
  std::vector<Checkpoint::InputFile> inputs;
  for (const std::string& path : paths) {
    std::error_code ignored;
    if (!fs::exists(path, ignored)) continue;
    ABQ_ASSIGN_OR_RETURN(Checkpoint::InputFile input, whole_file(path));
    inputs.push_back(std::move(input));
  }
  for (const SafetensorsFile& file : files.files()) {
    inputs.push_back({base_name(file.path()), static_cast<int64_t>(file.size()),
                      digest128(file.header_bytes())});
  }
  return inputs;
}

}  // namespace abq::frontend
