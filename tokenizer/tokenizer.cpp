#include "tokenizer/tokenizer.h"

#include <filesystem>

#include "tokenizer/json_tokenizer.h"
#include "tokenizer/sentencepiece_tokenizer.h"

namespace abq::tokenizer {

Result<std::unique_ptr<Tokenizer>> load_tokenizer(Kind kind, std::string bytes,
                                                  std::string_view name) {
  if (bytes.empty()) {
    return corrupt("{}: the file is empty; expected a tokenizer.json or tokenizer.model", name);
  }
  switch (kind) {
    case Kind::kHuggingFaceJson:
      return load_json_tokenizer(bytes, name);
    case Kind::kSentencePiece:
      return load_sentencepiece_tokenizer(bytes, name);
  }
  return invalid_argument("{}: unknown tokenizer kind {}", name, static_cast<int>(kind));
}

Result<TokenizerFile> find_tokenizer(const std::string& model_dir) {
  const std::filesystem::path folder(model_dir);
  std::error_code ignored;  // an unreadable folder reads as "not there"
  for (const auto& [kind, file] : {std::pair{Kind::kHuggingFaceJson, "tokenizer.json"},
                                   std::pair{Kind::kSentencePiece, "tokenizer.model"}}) {
    if (std::filesystem::is_regular_file(folder / file, ignored)) {
      return TokenizerFile{kind, (folder / file).string()};
    }
  }
  return not_found(
      "{}: neither tokenizer.json nor tokenizer.model is there; copy the one the model was trained "
      "with into the folder",
      model_dir);
}

}  // namespace abq::tokenizer
