#include "tests/common/tiny_artifact.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <map>

#include "support/mapped_file.h"
#include "tools/compile.h"
#include "tools/model_files.h"

namespace abq::test {
namespace {

struct TemporaryDir {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("abq_test_" + std::to_string(::getpid()));
  TemporaryDir() { std::filesystem::create_directories(path); }
  ~TemporaryDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

}  // namespace

const std::filesystem::path& temporary_dir() {
  static const TemporaryDir dir;
  return dir.path;
}

std::string tiny_llama_dir() {
  return std::string(ABQ_TEST_DATA_DIR) + "/tiny-llama";
}

std::vector<int32_t> sample_tokens(size_t count) {
  const Result<tools::ModelTokenizer> tokenizer = tools::load_model_tokenizer(tiny_llama_dir());
  REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().to_string());
  const Result<std::string> text =
      read_text_file(std::string(ABQ_TEST_DATA_DIR) + "/wikitext2-slice.txt");
  REQUIRE_MESSAGE(text.ok(), text.status().to_string());
  const Result<std::vector<int32_t>> tokens =
      tokenizer->tokenizer->encode(*text, tokenizer::SpecialTokens::kOmit);
  REQUIRE_MESSAGE(tokens.ok(), tokens.status().to_string());
  REQUIRE(tokens->size() >= count);
  return {tokens->begin(), tokens->begin() + static_cast<std::ptrdiff_t>(count)};
}

std::string tiny_artifact(const std::string& scheme) {
  static std::map<std::string, std::string> compiled;
  std::string& path = compiled[scheme];
  if (path.empty()) {
    path = (temporary_dir() / (scheme + ".abq")).string();
    tools::CompileOptions options;
    options.model_dir = tiny_llama_dir();
    options.output = path;
    constexpr std::string_view kRotate = "+rotate";
    options.scheme = scheme;
    if (scheme.ends_with(kRotate)) {
      options.scheme = scheme.substr(0, scheme.size() - kRotate.size());
      options.rotation = "hadamard";
    }
    const Result<tools::CompileResult> result = tools::compile(options);
    REQUIRE_MESSAGE(result.ok(), result.status().to_string());
  }
  return path;
}

std::shared_ptr<const runtime::Engine> tiny_engine(const std::string& scheme, bool stream_weights) {
  const auto plan = runtime::LoadedPlan::open(tiny_artifact(scheme), runtime::Verify::kAll);
  REQUIRE_MESSAGE(plan.ok(), plan.status().to_string());
  const auto engine = runtime::Engine::create(
      *plan, {.device = runtime::DeviceKind::kCpu, .stream_weights = stream_weights});
  REQUIRE_MESSAGE(engine.ok(), engine.status().to_string());
  return *engine;
}

}  // namespace abq::test
