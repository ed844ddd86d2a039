// The whole WikiText-2 test file against the ids of the `tokenizers` package.
#include <chrono>
#include <cstring>

#include "support/mapped_file.h"
#include "tests/common/reference.h"
#include "tests/tokenizer/fixtures.h"

namespace abq::tokenizer {
namespace {

std::string read(const std::filesystem::path& path) {
  Result<std::string> bytes = read_text_file(path.string());
  REQUIRE_MESSAGE(bytes.ok(), bytes.status().to_string());
  return *std::move(bytes);
}

// Little-endian uint16, as this machine's own.
std::vector<int32_t> read_ids(const std::filesystem::path& path) {
  const std::string bytes = read(path);
  std::vector<uint16_t> narrow(bytes.size() / sizeof(uint16_t));
  std::memcpy(narrow.data(), bytes.data(), narrow.size() * sizeof(uint16_t));
  return {narrow.begin(), narrow.end()};
}

void check_model(const std::string& model) {
  const std::filesystem::path reference = test::reference_dir();
  const std::string text = read(reference / "text" / "wikitext2-test.txt");
  const std::vector<int32_t> expected =
      read_ids(reference / "text" / (model + ".wikitext2-test.ids.u16"));
  Result<std::unique_ptr<Tokenizer>> tokenizer = load_tokenizer(
      Kind::kHuggingFaceJson, read(reference / "models" / model / "tokenizer.json"), model);
  REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().to_string());

  const auto start = std::chrono::steady_clock::now();
  const std::vector<int32_t> ids = ids_of(**tokenizer, text);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  MESSAGE(model << ": " << text.size() << " bytes, " << ids.size() << " ids in " << seconds.count()
                << " s");
  REQUIRE(ids.size() == expected.size());
  CHECK((ids == expected));
  CHECK((text_of(**tokenizer, ids) == text));
}

TEST_CASE("wiki-llama-19m: the ids of WikiText-2 test are the package's and decode to the text") {
  check_model("wiki-llama-19m");
}

TEST_CASE("tiny-llama: the ids of WikiText-2 test are the package's and decode to the text") {
  check_model("tiny-llama");
}

}  // namespace
}  // namespace abq::tokenizer
