#include "tokenizer/tokenizer.h"

namespace abq::tokenizer {

Result<std::string> Tokenizer::decode(std::span<const int32_t> ids) const {
  std::unique_ptr<TextStream> stream = new_stream();
  std::string text;
  for (int32_t id : ids) {
    ABQ_ASSIGN_OR_RETURN(const std::string piece, stream->push(id));
    text += piece;
  }
  ABQ_ASSIGN_OR_RETURN(const std::string rest, stream->finish());
  return text + rest;
}

Result<std::string> StreamingDecoder::push(int32_t id) {
  if (stream_ == nullptr) stream_ = tokenizer_.new_stream();
  return stream_->push(id);
}

Result<std::string> StreamingDecoder::finish() {
  if (stream_ == nullptr) return std::string();
  Result<std::string> rest = stream_->finish();
  stream_.reset();
  return rest;
}

}  // namespace abq::tokenizer
