// Main of the tests against the reference models, which no checkout carries: where they are absent
// it returns 77, which CTest shows as "skipped".
#define DOCTEST_CONFIG_IMPLEMENT
#include "tests/common/reference.h"

#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace abq::test {

std::filesystem::path reference_dir() {
  const char* chosen = std::getenv("ABQ_REFERENCE_DIR");
  return chosen != nullptr ? chosen : ABQ_REFERENCE_DIR;
}

}  // namespace abq::test

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;
  const std::filesystem::path model =
      abq::test::reference_dir() / "models" / "wiki-llama-19m" / "config.json";
  std::error_code ignored;
  if (!std::filesystem::exists(model, ignored)) {
    std::printf("skipped: %s is absent; set ABQ_REFERENCE_DIR to the folder of the references\n",
                model.c_str());
    return kSkipped;
  }
  return doctest::Context(argc, argv).run();
}
