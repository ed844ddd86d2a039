// What the tools read beside the weights: tokenizer and generation settings.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "runtime/plan.h"
#include "tokenizer/tokenizer.h"

namespace abq::tools {

// A tokenizer with the bytes that it was made from, which travel into the artifact.
struct ModelTokenizer {
  tokenizer::Kind kind = tokenizer::Kind::kHuggingFaceJson;
  std::string bytes;
  std::unique_ptr<tokenizer::Tokenizer> tokenizer;
};
Result<ModelTokenizer> load_model_tokenizer(const std::string& model_dir);
// The artifact's own.
Result<std::unique_ptr<tokenizer::Tokenizer>> load_plan_tokenizer(const runtime::LoadedPlan& plan);

Status add_tokenizer(const ModelTokenizer& tokenizer, backend::ArtifactWriter& writer,
                     proto::Plan& plan);
// Stop ids and sampling defaults from generation_config.json, stop ids from config.json without it.
// InvalidArgument for values that no generation could use.
Result<proto::GenerationDefaults> generation_defaults(const std::string& generation_config_json,
                                                      const std::string& config_json);
// The tokens that every artifact's self-test runs.
Result<std::vector<int32_t>> self_test_tokens(const tokenizer::Tokenizer& tokenizer,
                                              int64_t context);

}  // namespace abq::tools
