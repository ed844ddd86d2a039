#include <doctest/doctest.h>

#include "frontend/frontend.h"
#include "tests/common/reference.h"
#include "tests/frontend/golden_check.h"

using namespace abq;

TEST_CASE("wiki-llama-19m, three shards and an untied head, reproduces its golden values") {
  const std::string model = (test::reference_dir() / "models" / "wiki-llama-19m").string();
  const auto checkpoint = frontend::import_checkpoint(model);
  REQUIRE(checkpoint.ok());
  CHECK(checkpoint->module.regions.size() == 10);
  CHECK(checkpoint->module.tensors.contains("lm_head.weight"));
  frontend::testing::check_golden(model);
}
