// Steps of a plan that the CPU runs as one: the bits of the steps one after the other.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <span>

#include "runtime/cpu_steps/factories.h"
#include "support/random.h"
#include "tests/common/tiny_artifact.h"

namespace abq::runtime {
namespace {

std::shared_ptr<const LoadedPlan> rotated_plan(const std::string& scheme) {
  auto plan = LoadedPlan::open(test::tiny_artifact(scheme + "+rotate"), Verify::kAll);
  REQUIRE_MESSAGE(plan.ok(), plan.status().to_string());
  return std::move(plan).value();
}

// The transform in front of a quantization.
int transform_in(const proto::Plan& plan) {
  for (int i = 0; i + 1 < plan.steps_size(); ++i) {
    if (plan.steps(i).has_hadamard() && plan.steps(i + 1).has_quantize_tokens()) return i;
  }
  FAIL("no transform is quantized");
  return -1;
}

template <class T>
bool same(const T* a, const T* b, int64_t count) {
  return std::equal(a, a + count, b);
}

void check_equal(const PackedTokens& a, const PackedTokens& b) {
  REQUIRE(a.m() == b.m());
  REQUIRE(a.k() == b.k());
  REQUIRE(a.has_panels() == b.has_panels());
  REQUIRE(a.has_planes() == b.has_planes());
  CHECK(a.bits() == b.bits());
  CHECK(same(a.codes(0), b.codes(0), a.m() * a.padded_k()));
  CHECK(same(a.scales(), b.scales(), a.m()));
  CHECK(same(a.zeros(), b.zeros(), a.m()));
  CHECK(same(a.sums(), b.sums(), a.m()));
  CHECK(same(a.sums32(0), b.sums32(0), a.m() * a.padded_k() / 32));
  if (a.has_planes())
    CHECK(same(a.planes(0), b.planes(0), a.m() * a.bits() * PackedTokens::plane_bytes(a.k())));
}

}  // namespace

TEST_CASE("a transform and its quantization are one step, with the bits of two") {
  for (const char* scheme : {"w4a4-kv4-q4", "w8a8", "w2a1"}) {
    CAPTURE(std::string(scheme));
    const auto plan = rotated_plan(scheme);
    const int first = transform_in(plan->plan());
    const CpuStep fused = find_cpu_step(plan->plan(), first);
    REQUIRE(fused.count == 2);
    const proto::Step& transform = plan->plan().steps(first);
    const proto::Step& quantize = plan->plan().steps(first + 1);
    const auto one = fused.factory(*plan, transform);
    const auto hadamard = make_hadamard(*plan, transform);
    const auto quantization = make_quantize_tokens(*plan, quantize);
    REQUIRE(one.ok());
    CHECK((*one)->kernel_name(1) == "cpu.hadamard_quantize");
    for (const int64_t m : {1, 5, 100}) {
      ActivationBuffers alone(plan->plan()), apart(plan->plan());
      for (ActivationBuffers* buffers : {&alone, &apart}) {
        Random random(static_cast<uint64_t>(m));
        const MatrixView<float> x = buffers->floats(transform.inputs(0), m);
        for (int64_t i = 0; i < x.rows * x.cols; ++i)
          x.data[i] = static_cast<float>(random.normal());
        x.row(m - 1)[7] = std::numeric_limits<float>::infinity();
        StepContext context;
        context.m = m;
        context.buffers = buffers;
        if (buffers == &alone) {
          (*one)->run(context);
        } else {
          (*hadamard)->run(context);
          (*quantization)->run(context);
        }
      }
      check_equal(alone.tokens(quantize.output()), apart.tokens(quantize.output()));
    }
  }
}

TEST_CASE("a transform that another step reads too stays a step of its own") {
  const auto plan = rotated_plan("w8a8");
  proto::Plan changed = plan->plan();
  const int first = transform_in(changed);
  proto::Step* const reader = changed.mutable_steps(changed.steps_size() - 1);
  reader->add_inputs(changed.steps(first).output());
  CHECK(find_cpu_step(changed, first).count == 1);
  CHECK(find_cpu_step(plan->plan(), first + 1).count == 1);
}

TEST_CASE("an engine names the one kernel of both steps, and streams them too") {
  const std::vector<int32_t> tokens = test::sample_tokens(20);
  const auto engine = test::tiny_engine("w4a4-kv4-q4+rotate");
  const int first = transform_in(engine->plan().plan());
  CHECK(engine->kernel_name(first, 1) == "cpu.hadamard_quantize");
  CHECK(engine->kernel_name(first + 1, 1) == "cpu.hadamard_quantize");
  CHECK(engine->kernel_name(first + 2, 1) != "cpu.hadamard_quantize");
  const auto streamed = test::tiny_engine("w4a4-kv4-q4+rotate", true);
  CHECK(*(*engine->new_session({}))->run(tokens) == *(*streamed->new_session({}))->run(tokens));
}

}  // namespace abq::runtime
