#include "runtime/engine.h"

#include <doctest/doctest.h>

#include "tests/common/tiny_artifact.h"

namespace abq::runtime {

TEST_CASE("device names are parsed, others are refused with the list") {
  CHECK(*parse_device_kind("auto") == DeviceKind::kAuto);
  CHECK(*parse_device_kind("cpu") == DeviceKind::kCpu);
  CHECK(*parse_device_kind("cuda") == DeviceKind::kCuda);
  CHECK(parse_device_kind("gpu").status().message().find("auto, cpu or cuda") != std::string::npos);
}

TEST_CASE("a device that this build lacks is refused, and auto falls to the CPU") {
  const auto plan = LoadedPlan::open(test::tiny_artifact("w4a8-kv8"), Verify::kAll);
  REQUIRE(plan.ok());
  const auto cuda = Engine::create(*plan, {.device = DeviceKind::kCuda});
  REQUIRE_FALSE(cuda.ok());
  CHECK(cuda.status().code() == StatusCode::kDevice);
  const auto automatic = Engine::create(*plan, {.device = DeviceKind::kAuto});
  REQUIRE(automatic.ok());
  CHECK((*automatic)->device_name().starts_with("cpu-"));
}

TEST_CASE("every step names the kernel that it runs, for one token and for many") {
  const auto engine = test::tiny_engine("w4a8-kv8");
  for (int step = 0; step < engine->plan().plan().steps_size(); ++step) {
    CHECK(engine->kernel_name(step, 1).starts_with("cpu."));
    CHECK(engine->kernel_name(step, 512).starts_with("cpu."));
  }
}

TEST_CASE("narrow weights take less memory than wide ones") {
  const int64_t two = test::tiny_engine("w2a8")->weight_bytes();
  const int64_t eight = test::tiny_engine("w8a8")->weight_bytes();
  CHECK(two < eight);
}

}  // namespace abq::runtime
