// Text <-> token ids, from a Hugging Face tokenizer.json (BPE) or a SentencePiece tokenizer.model.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "support/status.h"

namespace abq::tokenizer {

enum class Kind { kHuggingFaceJson, kSentencePiece };

// Whether encode adds what the tokenizer's post-processor asks for (BOS for Llama).
enum class SpecialTokens { kAdd, kOmit };

// Turns ids into text as they arrive. Made by Tokenizer::new_stream; used through StreamingDecoder.
class TextStream {
 public:
  virtual ~TextStream() = default;
  virtual Result<std::string> push(int32_t id) = 0;
  virtual Result<std::string> finish() = 0;
};

// Immutable after loading: every member may be called from several threads at once.
//
// A tokenizer.json follows the `tokenizers` package, a tokenizer.model the sentencepiece library;
// where the two differ (an unknown piece, say) each follows its own reference. Truncation and
// padding settings in a tokenizer.json are ignored.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual Kind kind() const = 0;
  // Number of ids, added tokens included; every id is below it.
  virtual int64_t vocab_size() const = 0;
  // InvalidArgument names the byte offset where the text stops being UTF-8.
  virtual Result<std::vector<int32_t>> encode(std::string_view text,
                                              SpecialTokens special) const = 0;
  // Special tokens are left out of the text. NotFound for an id outside the vocabulary.
  virtual Result<std::string> decode(std::span<const int32_t> ids) const;
  virtual std::optional<int32_t> token_to_id(std::string_view token) const = 0;
  virtual bool is_special(int32_t id) const = 0;
  // The stream refers to this tokenizer, which must outlive it.
  virtual std::unique_ptr<TextStream> new_stream() const = 0;
};

// From the bytes of the file; `name` is the subject of error messages.
Result<std::unique_ptr<Tokenizer>> load_tokenizer(Kind kind, std::string bytes,
                                                  std::string_view name);

// tokenizer.json when the folder has one, else tokenizer.model; NotFound names both.
struct TokenizerFile {
  Kind kind;
  std::string path;
};
Result<TokenizerFile> find_tokenizer(const std::string& model_dir);

// Decodes a growing sequence piece by piece, holding back bytes until they form whole UTF-8
// characters: the pieces put together are decode(all ids), and each piece alone is valid UTF-8.
// Constant work per id. An id outside the vocabulary is NotFound and changes nothing.
class StreamingDecoder {
 public:
  explicit StreamingDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  // Text that became printable with this id (may be empty).
  Result<std::string> push(int32_t id);
  // What is left at the end; an unfinished character becomes U+FFFD. Ready for a new sequence then.
  Result<std::string> finish();

 private:
  const Tokenizer& tokenizer_;
  std::unique_ptr<TextStream> stream_;  // made by the first push
};

}  // namespace abq::tokenizer
