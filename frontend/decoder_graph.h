// The graph of a pre-norm decoder with rotary attention and a gated MLP: Llama and its relatives.
#pragma once

#include <string>
#include <vector>

#include "frontend/checkpoint_files.h"
#include "frontend/model_config.h"
#include "ir/graph.h"
#include "support/status.h"

namespace abq::frontend {

struct DecoderImport {
  ir::Module module;
  std::vector<std::string> ignored_tensors;  // present, known to be unneeded, not used
};

// Builds regions "embed", "layers.0", ..., "head" over the tensors of `files`.
//   NotFound         a tensor that the graph needs
//   InvalidArgument  a shape other than config.json gives; more layers than config.json says
//   Unsupported      a dtype other than F32, F16, BF16; a tensor that the graph has no use for (a
//                    weight left out silently would be another model)
Result<DecoderImport> build_decoder(const ModelConfig& config, const CheckpointFiles& files);

}  // namespace abq::frontend
