#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "runtime/generate.h"
#include "support/mapped_file.h"
#include "tests/common/tiny_artifact.h"

namespace abq {

TEST_CASE("the float artifact continues the golden prompt token by token") {
  const auto text = read_text_file(test::tiny_llama_dir() + "/golden.json");
  REQUIRE(text.ok());
  const nlohmann::json golden = nlohmann::json::parse(*text);
  const auto prompt = golden["prompt_ids"].get<std::vector<int32_t>>();
  const auto expected = golden["greedy_ids"].get<std::vector<int32_t>>();
  const auto engine = test::tiny_engine("w16a16");
  const auto session = engine->new_session({});
  REQUIRE(session.ok());
  std::vector<int32_t> ids;
  const auto stats =
      runtime::generate(**session, prompt,
                        {.max_new_tokens = static_cast<int64_t>(expected.size())}, [&](int32_t id) {
                          ids.push_back(id);
                          return true;
                        });
  REQUIRE(stats.ok());
  CHECK(ids == expected);
}

}  // namespace abq
