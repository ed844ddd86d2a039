// What went into an import, for the provenance record of an artifact.
#pragma once

#include <string>
#include <vector>

#include "frontend/checkpoint_files.h"
#include "frontend/frontend.h"
#include "support/status.h"

namespace abq::frontend {

// config.json, generation_config.json, the tokenizer's file, the index (those that exist) and the
// weight files, in this order: base name, size in bytes, and digest128 of all bytes; of weight
// files of length and header only. Io or NotFound when a file cannot be read.
Result<std::vector<Checkpoint::InputFile>> list_input_files(const std::string& model_dir,
                                                            const CheckpointFiles& files);

}  // namespace abq::frontend
