// The "decoder" of a tokenizer.json, as a stream: tokens in, text out.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "support/status.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/utf8.h"

namespace abq::tokenizer {

class DecoderStep {
 public:
  virtual ~DecoderStep() = default;
  // `is_first`: the first token of the text.
  virtual Result<std::string> apply(std::string token, bool is_first) const = 0;
};

// Immutable. The decoders of the `tokenizers` package rewrite lists of tokens; the ones supported
// here are those that need to see one token at a time, and at the start of the text.
class Decoder {
 public:
  // How tokens become text.
  enum class Join {
    kSpaced,        // put together with spaces (no decoder)
    kPlain,         // put together as they are
    kByteFallback,  // <0x..> tokens are bytes; each byte that forms no character becomes U+FFFD
    kByteLevel,     // byte-level characters are bytes; U+FFFD for each maximal subpart
  };

  Decoder() = default;  // kSpaced
  // Sequence, Replace, ByteFallback, Fuse, Strip (from the start of the fused text), ByteLevel,
  // Metaspace; Unsupported names any other type or order.
  static Result<Decoder> from_json(const JsonNode& node);

 private:
  friend class DecoderState;
  Status append(const JsonNode& node, int depth);
  Status append_strip(const JsonNode& node);

  std::vector<std::unique_ptr<const DecoderStep>> steps_;  // on each token, before joining
  Join join_ = Join::kSpaced;
  bool fused_ = false;  // nothing but Strip may follow
  std::string strip_;   // the character that Strip takes away, up to strip_count_ times
  int64_t strip_count_ = 0;
};

// One text on its way through a decoder, which must outlive it.
class DecoderState {
 public:
  explicit DecoderState(const Decoder& decoder);
  // The text that is settled after this token; tokens that are left out are not pushed.
  Result<std::string> push(std::string_view token);
  std::string finish();

 private:
  std::string strip(std::string text);

  const Decoder& decoder_;
  Utf8Assembler bytes_;
  bool is_first_ = true;
  int64_t strip_left_;
};

}  // namespace abq::tokenizer
