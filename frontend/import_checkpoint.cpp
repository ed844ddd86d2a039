#include <filesystem>

#include "frontend/checkpoint_files.h"
#include "frontend/decoder_graph.h"
#include "frontend/frontend.h"
#include "frontend/input_files.h"
#include "frontend/json.h"
#include "frontend/model_config.h"
#include "ir/verifier.h"
#include "support/checksum.h"
#include "support/log.h"
#include "support/mapped_file.h"

namespace abq::frontend {
namespace {

namespace fs = std::filesystem;

Status check_folder(const std::string& model_dir) {
  std::error_code error;
  const fs::file_status status = fs::status(model_dir, error);
  if (!fs::exists(status)) return not_found("{}: no such model folder", model_dir);
  if (!fs::is_directory(status)) {
    return invalid_argument("{}: expected a model folder, got a file", model_dir);
  }
  return {};
}

// The text of generation_config.json, checked to be JSON; empty when there is none.
Result<std::string> read_generation_config(const std::string& model_dir) {
  const std::string path = (fs::path(model_dir) / "generation_config.json").string();
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return std::string();
  ABQ_ASSIGN_OR_RETURN(std::string text, read_text_file(path));
  ABQ_RETURN_IF_ERROR(parse_json_object(text, path, StatusCode::kInvalidArgument).status());
  return text;
}

}  // namespace

Result<Checkpoint> import_checkpoint(const std::string& model_dir) {
  ABQ_RETURN_IF_ERROR(check_folder(model_dir));
  Checkpoint checkpoint;
  const std::string config_path = (fs::path(model_dir) / "config.json").string();
  ABQ_ASSIGN_OR_RETURN(checkpoint.config_json, read_text_file(config_path));
  ABQ_ASSIGN_OR_RETURN(const ModelConfig config,
                       parse_model_config(checkpoint.config_json, config_path));
  ABQ_ASSIGN_OR_RETURN(checkpoint.generation_config_json, read_generation_config(model_dir));
  ABQ_ASSIGN_OR_RETURN(const CheckpointFiles files, CheckpointFiles::open(model_dir));
  ABQ_ASSIGN_OR_RETURN(DecoderImport decoder, build_decoder(config, files));
  for (const std::string& name : decoder.ignored_tensors) {
    spdlog::info("{}: in the checkpoint, but not part of the model; ignored", name);
  }
  ABQ_RETURN_IF_ERROR(ir::verify(decoder.module).with_context(model_dir));
  checkpoint.module = std::move(decoder.module);
  checkpoint.ignored_tensors = std::move(decoder.ignored_tensors);
  ABQ_ASSIGN_OR_RETURN(checkpoint.inputs, list_input_files(model_dir, files));
  return checkpoint;
}

std::string weights_digest(const ir::Module& module) {
  Hasher hasher;
  for (const auto& [name, tensor] : module.tensors) {
    // The terminating zero keeps a name apart from the bytes that follow it.
    hasher.update(std::as_bytes(std::span(name.c_str(), name.size() + 1)));
    if (!tensor.data.present()) continue;
    hasher.update(tensor.data.bytes());
    tensor.data.drop_pages();
  }
  return hasher.digest128();
}

}  // namespace abq::frontend
