#include "tokenizer/bpe_model_json.h"

#include <limits>
#include <nlohmann/json.hpp>

namespace abq::tokenizer {
namespace {

using nlohmann::json;

Status check_model_type(const JsonNode& node) {
  ABQ_RETURN_IF_ERROR(node.expect_object());
  // Files of before 0.8 have no type.
  const bool looks_like_bpe = node.find("merges").has_value();
  ABQ_ASSIGN_OR_RETURN(const std::string type,
                       node.string_or("type", looks_like_bpe ? "BPE" : "unnamed"));
  if (type != "BPE") {
    return unsupported("{}: model type {} is not supported; this build has BPE", node.path(), type);
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    ABQ_ASSIGN_OR_RETURN(const std::string affix, node.string_or(key, ""));
    if (!affix.empty()) {
      return unsupported("{}.{}: \"{}\" is not supported; only null is", node.path(), key, affix);
    }
  }
  if (const std::optional<JsonNode> dropout = node.find("dropout")) {
    if (!dropout->value().is_number()) {
      return corrupt("{}: expected a number, got {}", dropout->path(),
                     dropout->value().type_name());
    }
    if (dropout->value().get<double>() != 0.0) {
      return unsupported("{}: {} would make the ids random; only null or 0 is supported",
                         dropout->path(), dropout->value().get<double>());
    }
  }
  return {};
}

Result<Vocabulary> read_vocabulary(const JsonNode& model) {
  ABQ_ASSIGN_OR_RETURN(const JsonNode node, model.member("vocab"));
  ABQ_RETURN_IF_ERROR(node.expect_object());
  if (node.value().empty()) return corrupt("{}: no tokens", node.path());
  Vocabulary vocabulary;
  vocabulary.reserve(node.value().size());
  std::unordered_map<int32_t, std::string_view> owners;
  for (const auto& [token, value] : node.value().items()) {
    if (!value.is_number_integer()) {
      return corrupt("{}: the id of \"{}\": expected an integer, got {}", node.path(), token,
                     value.type_name());
    }
    const bool beyond = value.is_number_unsigned()
                            ? value.get<uint64_t>() >= static_cast<uint64_t>(kMaxVocabSize)
                            : value.get<int64_t>() < 0;
    if (beyond) {
      return corrupt("{}: the id of \"{}\" is {}; expected 0 to {}", node.path(), token,
                     value.dump(), kMaxVocabSize - 1);
    }
    const auto id = value.get<int32_t>();
    const auto [entry, added] = vocabulary.emplace(token, id);
    const auto [owner, first] = owners.emplace(id, entry->first);
    if (!first) {
      return corrupt("{}: the id {} belongs to both \"{}\" and \"{}\"", node.path(), id,
                     owner->second, token);
    }
  }
  return vocabulary;
}

struct Pair {
  std::string_view left;
  std::string_view right;
};

// "a b" (older files) or ["a", "b"].
std::optional<Pair> read_pair(const json& value) {
  if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string()) {
    return Pair{value[0].get_ref<const std::string&>(), value[1].get_ref<const std::string&>()};
  }
  if (!value.is_string()) return std::nullopt;
  const std::string_view text = value.get_ref<const std::string&>();
  const size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
    return std::nullopt;
  }
  return Pair{text.substr(0, space), text.substr(space + 1)};
}

Result<Merges> read_merges(const JsonNode& model, const Vocabulary& vocabulary) {
  ABQ_ASSIGN_OR_RETURN(const JsonNode node, model.member("merges"));
  if (!node.value().is_array()) {
    return corrupt("{}: expected an array, got {}", node.path(), node.value().type_name());
  }
  if (node.value().size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    return corrupt("{}: {} merges are too many", node.path(), node.value().size());
  }
  Merges merges;
  merges.reserve(node.value().size());
  int32_t rank = 0;
  for (const json& value : node.value()) {
    const std::optional<Pair> pair = read_pair(value);
    if (!pair) {
      return corrupt("{}[{}]: expected \"left right\" or [\"left\", \"right\"]", node.path(), rank);
    }
    std::string merged(pair->left);
    merged += pair->right;
    int32_t ids[3];
    int known = 0;
    for (std::string_view token : {pair->left, pair->right, std::string_view(merged)}) {
      const auto found = vocabulary.find(token);
      if (found == vocabulary.end()) {
        return corrupt("{}[{}]: the token \"{}\" is not in the vocabulary", node.path(), rank,
                       token);
      }
      ids[known++] = found->second;
    }
    // A pair that is listed twice counts where it is listed last, as in the `tokenizers` package.
    merges[merge_key(ids[0], ids[1])] = {rank, ids[2]};
    ++rank;
  }
  return merges;
}

}  // namespace

Result<BpeModel> bpe_model_from_json(const JsonNode& node) {
  ABQ_RETURN_IF_ERROR(check_model_type(node));
  ABQ_ASSIGN_OR_RETURN(Vocabulary vocabulary, read_vocabulary(node));
  ABQ_ASSIGN_OR_RETURN(Merges merges, read_merges(node, vocabulary));
  BpeOptions options;
  ABQ_ASSIGN_OR_RETURN(options.fuse_unk, node.bool_or("fuse_unk", false));
  ABQ_ASSIGN_OR_RETURN(options.byte_fallback, node.bool_or("byte_fallback", false));
  ABQ_ASSIGN_OR_RETURN(options.ignore_merges, node.bool_or("ignore_merges", false));
  ABQ_ASSIGN_OR_RETURN(const std::string unk_token, node.string_or("unk_token", ""));
  if (!unk_token.empty()) {
    const auto found = vocabulary.find(unk_token);
    if (found == vocabulary.end()) {
      return corrupt("{}.unk_token: \"{}\" is not in the vocabulary", node.path(), unk_token);
    }
    options.unk_id = found->second;
  }
  return BpeModel(std::move(vocabulary), std::move(merges), options);
}

}  // namespace abq::tokenizer
