#include <doctest/doctest.h>

#include "frontend/frontend.h"
#include "tests/frontend/model_folder.h"

using namespace abq;
using namespace abq::frontend;
using abq::frontend::testing::expect_error;

namespace {

// One token per byte, and a BOS (256) when special tokens are asked for.
class ByteTokenizer : public tokenizer::Tokenizer {
 public:
  tokenizer::Kind kind() const override { return tokenizer::Kind::kHuggingFaceJson; }
  int64_t vocab_size() const override { return 257; }
  Result<std::vector<int32_t>> encode(std::string_view text,
                                      tokenizer::SpecialTokens special) const override {
    if (text == "bad") return invalid_argument("not UTF-8 at byte 0");
    std::vector<int32_t> ids;
    if (special == tokenizer::SpecialTokens::kAdd) ids.push_back(256);
    for (const char c : text) {
      ids.push_back(static_cast<unsigned char>(c));
    }
    return ids;
  }
  Result<std::string> decode(std::span<const int32_t>) const override { return std::string(); }
  std::optional<int32_t> token_to_id(std::string_view) const override { return std::nullopt; }
  bool is_special(int32_t id) const override { return id == 256; }
  std::unique_ptr<tokenizer::TextStream> new_stream() const override { return nullptr; }
};

std::string counting_text(int n) {
  std::string text;
  for (int i = 0; i < n; ++i) {
    text.push_back(static_cast<char>(i));
  }
  return text;
}

}  // namespace

TEST_CASE("windows start at floor(i (n - context) / windows), in order, without BOS") {
  // n = 100, context 10: starts floor(i * 90 / 7).
  const auto windows = calibration_windows(ByteTokenizer(), counting_text(100), 7, 10);
  REQUIRE(windows.ok());
  REQUIRE(windows->size() == 7);
  const std::vector<int32_t> starts = {0, 12, 25, 38, 51, 64, 77};
  for (size_t i = 0; i < 7; ++i) {
    REQUIRE((*windows)[i].size() == 10);
    CHECK((*windows)[i].front() == starts[i]);
    CHECK((*windows)[i].back() == starts[i] + 9);
  }
}

TEST_CASE("a text of exactly one window is enough for one") {
  const auto windows = calibration_windows(ByteTokenizer(), counting_text(10), 1, 10);
  REQUIRE(windows.ok());
  CHECK(windows->front().size() == 10);
}

TEST_CASE("empty and too short texts and impossible numbers are refused with the numbers") {
  const ByteTokenizer tokenizer;
  expect_error(calibration_windows(tokenizer, "", 1, 1).status(), StatusCode::kInvalidArgument,
               {"calibration text: empty"});
  expect_error(calibration_windows(tokenizer, "abc", 1, 4).status(), StatusCode::kInvalidArgument,
               {"has 3 tokens, but a window takes 4"});
  expect_error(calibration_windows(tokenizer, counting_text(12), 5, 10).status(),
               StatusCode::kInvalidArgument,
               {"has 12 tokens, too few for 5 different windows of 10", "at most 2"});
  expect_error(calibration_windows(tokenizer, "abc", 0, 1).status(), StatusCode::kInvalidArgument,
               {"got 0 of 1"});
  expect_error(calibration_windows(tokenizer, "abc", 1, -5).status(), StatusCode::kInvalidArgument,
               {"got 1 of -5"});
  expect_error(calibration_windows(tokenizer, "bad", 1, 1).status(), StatusCode::kInvalidArgument,
               {"not UTF-8"});
}
