#include "tools/memory_budget.h"

#include <doctest/doctest.h>

namespace abq::tools {

TEST_CASE("a memory budget takes bf16 and then files as the streams outgrow its half") {
  using Precision = passes::StreamOptions::Precision;
  // 4 streams of 1000 values: 16000 bytes in float32, 8000 in bf16.
  const StreamNeeds needs = {.streams = 4, .windows = 5, .context = 20, .hidden = 10};
  const auto check = [&](int64_t budget, Precision precision, const std::string& folder) {
    CAPTURE(budget);
    const passes::StreamOptions options = stream_options(budget, needs, "work");
    CHECK(options.precision == precision);
    CHECK(options.spill_folder == folder);
  };
  check(0, Precision::kFloat32, "");
  check(32000, Precision::kFloat32, "");
  check(31999, Precision::kBFloat16, "");
  check(16000, Precision::kBFloat16, "");
  check(15999, Precision::kBFloat16, "work");
  check(1, Precision::kBFloat16, "work");
}

}  // namespace abq::tools
