#include "tools/model_files.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "support/mapped_file.h"

namespace abq::tools {
namespace {

using Json = nlohmann::json;

std::string shown(const Json& value) {
  return value.dump(-1, ' ', true, Json::error_handler_t::replace);
}

// eos_token_id is a number, a list of numbers, or null.
Status read_stop_ids(const Json& config, std::string_view file, proto::GenerationDefaults& out) {
  const auto entry = config.find("eos_token_id");
  if (entry == config.end() || entry->is_null()) return {};
  const Json ids = entry->is_array() ? *entry : Json::array({*entry});
  for (const Json& id : ids) {
    // Negative numbers are not unsigned.
    if (!id.is_number_unsigned() || id.get<uint64_t>() > std::numeric_limits<int32_t>::max()) {
      return invalid_argument("{}: eos_token_id is {}; expected an id or a list of ids", file,
                              shown(*entry));
    }
    out.add_stop_ids(id.get<int32_t>());
  }
  return {};
}

// Gives `set` a float that the plan's reader takes: lowest <= value <= highest.
template <class Set>
Status read_float(const Json& config, std::string_view file, const char* key, float lowest,
                  float highest, Set set) {
  const auto entry = config.find(key);
  if (entry == config.end() || entry->is_null()) return {};
  const double value = entry->is_number() ? entry->get<double>() : std::nan("");
  // Written so that NaN fails.
  if (!(value >= lowest && value <= highest)) {
    return invalid_argument("{}: {} is {}; expected a number from {} to {}", file, key,
                            shown(*entry), lowest, highest);
  }
  set(static_cast<float>(value));
  return {};
}

Status read_top_k(const Json& config, std::string_view file, proto::GenerationDefaults& out) {
  const auto entry = config.find("top_k");
  if (entry == config.end() || entry->is_null()) return {};
  if (!entry->is_number_unsigned() ||
      entry->get<uint64_t>() > std::numeric_limits<int32_t>::max()) {
    return invalid_argument("{}: top_k is {}; expected an integer from 0 (all) to {}", file,
                            shown(*entry), std::numeric_limits<int32_t>::max());
  }
  out.set_top_k(entry->get<int32_t>());
  return {};
}

Status read_sampling(const Json& config, std::string_view file, proto::GenerationDefaults& out) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  constexpr float kSmallest = std::numeric_limits<float>::min();
  ABQ_RETURN_IF_ERROR(read_float(config, file, "temperature", 0, kLargest,
                                 [&](float value) { out.set_temperature(value); }));
  ABQ_RETURN_IF_ERROR(
      read_float(config, file, "top_p", kSmallest, 1, [&](float value) { out.set_top_p(value); }));
  ABQ_RETURN_IF_ERROR(read_float(config, file, "repetition_penalty", kSmallest, kLargest,
                                 [&](float value) { out.set_repetition_penalty(value); }));
  return read_top_k(config, file, out);
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
  if (!plan.plan().has_tokenizer()) {
    return not_found("{}: carries no tokenizer; compile the model again", plan.path());
  }
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

Result<proto::GenerationDefaults> generation_defaults(const std::string& generation_config_json,
                                                      const std::string& config_json) {
  const bool own_file = !generation_config_json.empty();
  const std::string_view file = own_file ? "generation_config.json" : "config.json";
  const Json config = Json::parse(own_file ? generation_config_json : config_json, nullptr, false);
  if (!config.is_object()) return invalid_argument("{}: expected a JSON object", file);
  proto::GenerationDefaults out;
  ABQ_RETURN_IF_ERROR(read_stop_ids(config, file, out));
  const auto sampling = config.find("do_sample");
  if (sampling == config.end() || sampling->is_null()) return out;
  if (!sampling->is_boolean()) {
    return invalid_argument("{}: do_sample is {}; expected true or false", file, shown(*sampling));
  }
  // Sampling values count only where the model asks for sampling.
  if (sampling->get<bool>()) ABQ_RETURN_IF_ERROR(read_sampling(config, file, out));
  return out;
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
