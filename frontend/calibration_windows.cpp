#include "frontend/frontend.h"

namespace abq::frontend {

Result<std::vector<std::vector<int32_t>>> calibration_windows(const tokenizer::Tokenizer& tokenizer,
                                                              std::string_view text,
                                                              int64_t windows, int64_t context) {
  if (windows < 1 || context < 1) {
    return invalid_argument(
        "calibration: expected at least 1 window of at least 1 token, got {} of "
        "{}",
        windows, context);
  }
  if (text.empty()) return invalid_argument("calibration text: empty");
  ABQ_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                       tokenizer.encode(text, tokenizer::SpecialTokens::kOmit));
  const auto n = static_cast<int64_t>(ids.size());
  if (n < context) {
    return invalid_argument(
        "calibration text: has {} tokens, but a window takes {}; give more text "
        "or a shorter window",
        n, context);
  }
  const int64_t room = n - context;
  // With fewer starts than windows, some windows would be the same.
  if (windows > 1 && room < windows) {
    return invalid_argument(
        "calibration text: has {} tokens, too few for {} different windows of {}; "
        "give more text, or ask for at most {}",
        n, windows, context, room > 1 ? room : 1);
  }
  std::vector<std::vector<int32_t>> result;
  result.reserve(static_cast<size_t>(windows));
  for (int64_t i = 0; i < windows; ++i) {
    const auto begin = ids.begin() + i * room / windows;
    result.emplace_back(begin, begin + context);
  }
  return result;
}

}  // namespace abq::frontend
