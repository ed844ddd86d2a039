// Tokenizer from a SentencePiece tokenizer.model, by the sentencepiece library.
#pragma once

#include <memory>
#include <string_view>

#include "tokenizer/tokenizer.h"

namespace abq::tokenizer {

// `name` is the subject of errors. Corrupt when the library refuses the bytes. SpecialTokens::kAdd
// puts the BOS piece in front when the model has one (Llama's convention; the file has no word on
// it). Control pieces are special; in text to encode they are plain text.
Result<std::unique_ptr<Tokenizer>> load_sentencepiece_tokenizer(std::string_view bytes,
                                                                std::string_view name);

}  // namespace abq::tokenizer
