#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>

#include "passes/pass.h"

namespace abq::passes {

TEST_CASE("every pass of the registry can be made, has help and a name of its own") {
  std::set<std::string_view> names;
  for (const PassInfo& info : pass_registry()) {
    CAPTURE(info.name);
    CHECK(names.insert(info.name).second);
    CHECK(!info.help.empty());
    Result<std::unique_ptr<Pass>> pass = create_pass(info.name);
    REQUIRE(pass.ok());
    const bool graph = dynamic_cast<GraphPass*>(pass->get()) != nullptr;
    const bool block = dynamic_cast<BlockPass*>(pass->get()) != nullptr;
    const bool model = dynamic_cast<ModelPass*>(pass->get()) != nullptr;
    CHECK(int{graph} + int{block} + int{model} == 1);
  }
}

TEST_CASE("an unknown pass is not found, and the message lists those there are") {
  const Result<std::unique_ptr<Pass>> pass = create_pass("quantise");
  REQUIRE(!pass.ok());
  CHECK(pass.status().code() == StatusCode::kNotFound);
  CHECK(pass.status().message().find("pack-weights, quantize") != std::string::npos);
}

}  // namespace abq::passes
