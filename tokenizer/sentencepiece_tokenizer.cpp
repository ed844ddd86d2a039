#include "tokenizer/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <charconv>

#include "tokenizer/utf8.h"

namespace abq::tokenizer {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

class SentencePieceTokenizer : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(std::unique_ptr<sentencepiece::SentencePieceProcessor> processor)
      : processor_(std::move(processor)), anchor_(find_anchor()) {}

  Kind kind() const override { return Kind::kSentencePiece; }
  int64_t vocab_size() const override { return processor_->GetPieceSize(); }

  Result<std::vector<int32_t>> encode(std::string_view text, SpecialTokens special) const override {
    ABQ_RETURN_IF_ERROR(check_utf8(text));
    std::vector<int> ids;
    const sentencepiece::util::Status status = processor_->Encode(text, &ids);
    if (!status.ok()) return internal_error("sentencepiece: {}", status.ToString());
    if (special == SpecialTokens::kAdd && processor_->bos_id() >= 0) {
      ids.insert(ids.begin(), processor_->bos_id());
    }
    return ids;
  }

  std::optional<int32_t> token_to_id(std::string_view token) const override {
    const int id = processor_->PieceToId(token);
    // The library answers "unknown" for what it does not know.
    if (id < 0 || id >= vocab_size() || processor_->IdToPiece(id) != token) return std::nullopt;
    return id;
  }

  bool is_special(int32_t id) const override {
    return id >= 0 && id < vocab_size() && processor_->IsControl(id);
  }

  std::unique_ptr<TextStream> new_stream() const override;

  // The library's decoding of `ids`, all of them in the vocabulary.
  Result<std::string> text_of(const std::vector<int>& ids) const {
    std::string text;
    const sentencepiece::util::Status status = processor_->Decode(ids, &text);
    if (!status.ok()) return internal_error("sentencepiece: {}", status.ToString());
    return text;
  }

  // The byte that a byte piece "<0x0A>" stands for.
  std::optional<char> byte_of(int32_t id) const {
    if (!processor_->IsByte(id)) return std::nullopt;
    const std::string& piece = processor_->IdToPiece(id);
    unsigned byte = 0;
    std::from_chars(piece.data() + 3, piece.data() + piece.size() - 1, byte, 16);
    return static_cast<char>(byte);
  }

  // An ordinary piece without a space mark; nullopt in a vocabulary without one.
  std::optional<int32_t> anchor() const { return anchor_; }

 private:
  std::optional<int32_t> find_anchor() const {
    for (int id = 0; id < processor_->GetPieceSize(); ++id) {
      const bool ordinary = !processor_->IsControl(id) && !processor_->IsUnknown(id) &&
                            !processor_->IsByte(id) && !processor_->IsUnused(id);
      const std::string& piece = processor_->IdToPiece(id);
      if (ordinary && piece.find(kSpaceMark) == std::string::npos) return id;
    }
    return std::nullopt;
  }

  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  std::optional<int32_t> anchor_;
};

// The text of an id depends on what precedes it in two ways only: whether any text does (the first
// space is dropped), and the bytes of an unfinished character. So a few ids are decoded behind a
// context, and the context's own text is cut off.
class SentencePieceStream : public TextStream {
 public:
  explicit SentencePieceStream(const SentencePieceTokenizer& tokenizer) : tokenizer_(tokenizer) {}

  Result<std::string> push(int32_t id) override {
    if (id < 0 || id >= tokenizer_.vocab_size()) {
      return not_found("token id {} is not in the vocabulary of {} ids", id,
                       tokenizer_.vocab_size());
    }
    if (tokenizer_.is_special(id)) return std::string();
    waiting_.push_back(id);
    if (const std::optional<char> byte = tokenizer_.byte_of(id)) {
      partial_ += *byte;
      if (ends_inside_character()) return std::string();
    }
    partial_.clear();
    return take();
  }

  Result<std::string> finish() override { return take(); }

 private:
  // Drops from `partial_` what is decided.
  bool ends_inside_character() {
    while (!partial_.empty()) {
      const Utf8Unit unit = next_utf8_unit(partial_);
      if (unit.kind == Utf8Kind::kIncomplete) return true;
      partial_.erase(0, unit.kind == Utf8Kind::kCharacter ? unit.size : 1);
    }
    return false;
  }

  Result<std::string> take() {
    ABQ_ASSIGN_OR_RETURN(const std::string before, tokenizer_.text_of(context_));
    context_.insert(context_.end(), waiting_.begin(), waiting_.end());
    waiting_.clear();
    ABQ_ASSIGN_OR_RETURN(const std::string text, tokenizer_.text_of(context_));
    // A model may carry rules that rewrite decoded text; they must leave its beginning alone.
    if (!text.starts_with(before)) {
      return unsupported("sentencepiece: the model rewrites earlier text while it decodes");
    }
    if (!text.empty() && tokenizer_.anchor()) context_ = {*tokenizer_.anchor()};
    return text.substr(before.size());
  }

  const SentencePieceTokenizer& tokenizer_;
  std::vector<int> context_;  // ids whose text is out
  std::vector<int> waiting_;  // ids whose text is not
  std::string partial_;       // the unfinished character at the end of waiting_
};

std::unique_ptr<TextStream> SentencePieceTokenizer::new_stream() const {
  return std::make_unique<SentencePieceStream>(*this);
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> load_sentencepiece_tokenizer(std::string_view bytes,
                                                                std::string_view name) {
  auto processor = std::make_unique<sentencepiece::SentencePieceProcessor>();
  const sentencepiece::util::Status status = processor->LoadFromSerializedProto(bytes);
  if (!status.ok()) {
    // The library quotes pieces of a damaged file, which may be any bytes.
    std::string reason;
    Utf8Assembler assembler(Utf8Assembler::Replace::kByte);
    assembler.push(status.error_message(), reason);
    assembler.flush(reason);
    return corrupt("{}: not a sentencepiece model: {}", name, reason);
  }
  if (processor->GetPieceSize() == 0) return corrupt("{}: the model has no pieces", name);
  return std::unique_ptr<Tokenizer>(std::make_unique<SentencePieceTokenizer>(std::move(processor)));
}

}  // namespace abq::tokenizer
