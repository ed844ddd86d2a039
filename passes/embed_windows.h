// Where every run of a model over calibration windows begins.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "compute/device.h"
#include "ir/graph.h"
#include "passes/stream.h"
#include "support/status.h"

namespace abq::passes {

// The embeddings of windows of token ids, all of one length, by the embed region of `module`.
// Errors of ir::Interpreter::embed and Stream::create.
Result<Stream> embed_windows(const ir::Module& module,
                             std::span<const std::vector<int32_t>> windows,
                             const compute::Device& device, const StreamOptions& options);

}  // namespace abq::passes
