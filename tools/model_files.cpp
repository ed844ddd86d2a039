#include "tools/model_files.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "support/mapped_file.h"

namespace abq::tools {
namespace {

using Json = nlohmann::json;

// eos_token_id is a number, a list of numbers, or null.
Status read_stop_ids(const Json& config, std::string_view file, proto::GenerationDefaults& out) {
  const auto entry = config.find("eos_token_id");
  if (entry == config.end() || entry->is_null()) return {};
  const Json ids = entry->is_array() ? *entry : Json::array({*entry});
  for (const Json& id : ids) {
    if (!id.is_number_integer()) {
      return invalid_argument("{}: eos_token_id is {}; expected an id or a list of ids", file,
                              entry->dump());
    }
    out.add_stop_ids(id.get<int32_t>());
  }
  return {};
}

template <class T, class Set>
void read_number(const Json& config, const char* key, Set set) {
  const auto entry = config.find(key);
  if (entry != config.end() && entry->is_number()) set(entry->get<T>());
}

}  // namespace

Result<ModelTokenizer> load_model_tokenizer(const std::string& model_dir) {
  ABQ_ASSIGN_OR_RETURN(const tokenizer::TokenizerFile file, tokenizer::find_tokenizer(model_dir));
  ModelTokenizer result;
  result.kind = file.kind;
  ABQ_ASSIGN_OR_RETURN(result.bytes, read_text_file(file.path));
  ABQ_ASSIGN_OR_RETURN(result.tokenizer,
                       tokenizer::load_tokenizer(file.kind, result.bytes, file.path));
  return result;
}

Result<std::unique_ptr<tokenizer::Tokenizer>> load_plan_tokenizer(const runtime::LoadedPlan& plan) {
  const proto::Tokenizer& description = plan.plan().tokenizer();
  const std::span<const std::byte> bytes = plan.blob_bytes(description.blob());
  const tokenizer::Kind kind = description.kind() == proto::Tokenizer::SENTENCE_PIECE
                                   ? tokenizer::Kind::kSentencePiece
                                   : tokenizer::Kind::kHuggingFaceJson;
  return tokenizer::load_tokenizer(
      kind, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
      plan.path() + ": tokenizer");
}

Status add_tokenizer(const ModelTokenizer& tokenizer, backend::ArtifactWriter& writer,
                     proto::Plan& plan) {
  const std::span<const char> text(tokenizer.bytes);
  ABQ_ASSIGN_OR_RETURN(const uint32_t blob, writer.add_blob("tokenizer", proto::BYTES,
                                                            {static_cast<int64_t>(text.size())}, 0,
                                                            std::as_bytes(text)));
  plan.mutable_tokenizer()->set_kind(tokenizer.kind == tokenizer::Kind::kSentencePiece
                                         ? proto::Tokenizer::SENTENCE_PIECE
                                         : proto::Tokenizer::HUGGING_FACE_JSON);
  plan.mutable_tokenizer()->set_blob(blob);
  return {};
}

Status set_generation_defaults(const std::string& generation_config_json,
                               const std::string& config_json, proto::Plan& plan) {
  proto::GenerationDefaults& out = *plan.mutable_generation();
  const bool own_file = !generation_config_json.empty();
  const std::string_view file = own_file ? "generation_config.json" : "config.json";
  const Json config = Json::parse(own_file ? generation_config_json : config_json, nullptr, false);
  if (!config.is_object()) return invalid_argument("{}: expected a JSON object", file);
  ABQ_RETURN_IF_ERROR(read_stop_ids(config, file, out));
  // Sampling values count only where the model asks for sampling.
  if (!config.value("do_sample", false)) return {};
  read_number<float>(config, "temperature", [&](float v) { out.set_temperature(v); });
  read_number<float>(config, "top_p", [&](float v) { out.set_top_p(v); });
  read_number<int32_t>(config, "top_k", [&](int32_t v) { out.set_top_k(v); });
  read_number<float>(config, "repetition_penalty", [&](float v) { out.set_repetition_penalty(v); });
  return {};
}

Result<std::vector<int32_t>> self_test_tokens(const tokenizer::Tokenizer& tokenizer,
                                              int64_t context) {
  constexpr size_t kTokens = 16;
  ABQ_ASSIGN_OR_RETURN(
      std::vector<int32_t> tokens,
      tokenizer.encode("The quick brown fox jumps over the lazy dog, then sleeps until 7 o'clock.",
                       tokenizer::SpecialTokens::kAdd));
  tokens.resize(std::min({tokens.size(), kTokens, static_cast<size_t>(context)}));
  return tokens;
}

}  // namespace abq::tools
