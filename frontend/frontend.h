// Checkpoints -> IR.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "support/status.h"
#include "tokenizer/tokenizer.h"

namespace abq::frontend {

// A Hugging Face model folder, imported: config.json, *.safetensors (one file or shards with
// index), generation_config.json. Tensors are ranges of the mapped files: nothing is read but
// headers.
struct Checkpoint {
  ir::Module module;
  std::string config_json;
  std::string generation_config_json;  // empty when there is none
  // Name and digest of every file that went in, in a fixed order (weight files: digest of the
  // header; weights_digest covers the values).
  struct InputFile {
    std::string name;
    int64_t size = 0;
    std::string digest;
  };
  std::vector<InputFile> inputs;
  // Tensors that are present but not part of the model: rotary buffers, the copy of a tied head.
  std::vector<std::string> ignored_tensors;
};

// Errors: NotFound (folder, shard, tensor), Unsupported (architecture, feature, dtype, tensors that
// the graph has no place for), Corrupt (safetensors, index), InvalidArgument (config, shapes). The
// module passes ir::verify.
//
// Module attributes that every importer sets (ints): vocab_size, hidden_size, layers, heads,
// kv_heads, head_dim, intermediate_size, context, tie_embeddings (0/1); and (string) family.
Result<Checkpoint> import_checkpoint(const std::string& model_dir);

// digest128 over names and bytes of all tensors in the order of their names: reads every weight
// once, dropping its pages behind it.
std::string weights_digest(const ir::Module& module);

// Calibration windows by the project's protocol: all tokens of `text` without BOS, n of them;
// `windows` windows of `context` tokens starting at floor(i (n - context) / windows), in order.
// InvalidArgument for an empty text, or one too short for that many different windows.
Result<std::vector<std::vector<int32_t>>> calibration_windows(const tokenizer::Tokenizer& tokenizer,
                                                              std::string_view text,
                                                              int64_t windows, int64_t context);

}  // namespace abq::frontend
