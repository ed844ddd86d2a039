#include "runtime/self_test.h"

#include <doctest/doctest.h>

#include "tests/common/tiny_artifact.h"

namespace abq::runtime {

TEST_CASE("every artifact carries a self-test that passes on the machine that made it") {
  for (const char* scheme : {"w16a16", "w4a4-kv4-q4", "w2ba8", "w4a16"}) {
    CAPTURE(std::string(scheme));
    const auto engine = test::tiny_engine(scheme);
    CHECK(engine->plan().plan().self_test().top_ids_size() == 8);
    const Status status = run_self_test(*engine);
    CHECK_MESSAGE(status.ok(), status.to_string());
  }
}

TEST_CASE("a self-test records the best logits in descending order") {
  const auto engine = test::tiny_engine("w4a16");
  const auto test = make_self_test(*engine, test::sample_tokens(5));
  REQUIRE(test.ok());
  CHECK(test->tokens_size() == 5);
  for (int i = 1; i < test->top_logits_size(); ++i) {
    CHECK(test->top_logits(i - 1) >= test->top_logits(i));
  }
}

}  // namespace abq::runtime
