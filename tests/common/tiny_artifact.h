// Artifacts of the bundled tiny-llama, compiled once per process and scheme.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "runtime/engine.h"

namespace abq::test {

// A folder of this process, removed when it ends.
const std::filesystem::path& temporary_dir();

std::string tiny_llama_dir();
// tokens of the beginning of the bundled WikiText-2 slice.
std::vector<int32_t> sample_tokens(size_t count);

// `scheme` may end in "+rotate": then the model is rotated first, as by `abq compile --rotate`.
std::string tiny_artifact(const std::string& scheme);
std::shared_ptr<const runtime::Engine> tiny_engine(const std::string& scheme,
                                                   bool stream_weights = false);

}  // namespace abq::test
