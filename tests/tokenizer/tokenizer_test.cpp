#include "tokenizer/tokenizer.h"

#include <filesystem>
#include <fstream>

#include "tests/tokenizer/fixtures.h"

namespace abq::tokenizer {
namespace {

namespace fs = std::filesystem;

TEST_CASE("a folder's tokenizer.json comes before its tokenizer.model") {
  const fs::path folder = fs::temp_directory_path() / "abq_find_tokenizer_test";
  fs::remove_all(folder);
  fs::create_directories(folder);
  const Status status = find_tokenizer(folder.string()).status();
  check_refusal(status, StatusCode::kNotFound,
                {folder.string(), "tokenizer.json", "tokenizer.model"});

  std::ofstream(folder / "tokenizer.model") << "x";
  Result<TokenizerFile> found = find_tokenizer(folder.string());
  REQUIRE(found.ok());
  CHECK(found->kind == Kind::kSentencePiece);
  CHECK(found->path == (folder / "tokenizer.model").string());

  std::ofstream(folder / "tokenizer.json") << "{}";
  found = find_tokenizer(folder.string());
  REQUIRE(found.ok());
  CHECK(found->kind == Kind::kHuggingFaceJson);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace abq::tokenizer
