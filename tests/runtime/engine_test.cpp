#include "runtime/engine.h"

#include <doctest/doctest.h>

#include <algorithm>

#include <cstring>
#include <fstream>

#include "proto/artifact_format.h"
#include "support/checksum.h"
#include "support/mapped_file.h"
#include "tests/common/tiny_artifact.h"

namespace abq::runtime {
namespace {

// The artifact of `scheme` whose plan names `kernel` (as long as the name it has) for every
// quantized linear, with valid checksums.
Result<std::shared_ptr<const Engine>> engine_with_kernel(const std::string& scheme,
                                                         std::string_view kernel) {
  std::string file = *read_text_file(test::tiny_artifact(scheme));
  proto::ArtifactHeader header;
  std::memcpy(&header, file.data(), sizeof(header));
  constexpr std::string_view kPlanned = "cpu.int8";
  REQUIRE(kernel.size() == kPlanned.size());
  for (size_t at = header.plan_offset; (at = file.find(kPlanned, at)) != std::string::npos;)
    file.replace(at, kernel.size(), kernel);
  const auto bytes = std::as_bytes(std::span(file));
  header.plan_checksum = checksum64(bytes.subspan(header.plan_offset, header.plan_size));
  const auto header_bytes = std::as_bytes(std::span(&header, 1));
  header.header_checksum = checksum64(header_bytes.first(header_bytes.size() - sizeof(uint64_t)));
  std::memcpy(file.data(), &header, sizeof(header));
  const std::string path = (test::temporary_dir() / "other_kernel.abq").string();
  std::ofstream(path, std::ios::binary) << file;
  ABQ_ASSIGN_OR_RETURN(std::shared_ptr<const LoadedPlan> plan,
                       LoadedPlan::open(path, Verify::kAll));
  return Engine::create(std::move(plan), {.device = DeviceKind::kCpu});
}

}  // namespace

TEST_CASE("device names are parsed, others are refused with the list") {
  CHECK(*parse_device_kind("auto") == DeviceKind::kAuto);
  CHECK(*parse_device_kind("cpu") == DeviceKind::kCpu);
  CHECK(*parse_device_kind("cuda") == DeviceKind::kCuda);
  CHECK(parse_device_kind("gpu").status().message().find("auto, cpu or cuda") != std::string::npos);
  CHECK(*parse_prefill_attention("auto") == PrefillAttention::kAuto);
  CHECK(*parse_prefill_attention("own") == PrefillAttention::kOwn);
  CHECK(*parse_prefill_attention("cudnn") == PrefillAttention::kCudnn);
  CHECK(parse_prefill_attention("fast").status().message() ==
        "attention 'fast': expected auto, own or cudnn");
}

TEST_CASE("auto takes CUDA exactly where CUDA works, and else the CPU") {
  const auto plan = LoadedPlan::open(test::tiny_artifact("w4a8-kv8"), Verify::kAll);
  REQUIRE(plan.ok());
  const auto cuda = Engine::create(*plan, {.device = DeviceKind::kCuda});
  if (!cuda.ok()) {
    CHECK(cuda.status().code() == StatusCode::kUnsupported);
    CHECK(cuda.status().message().find("cuda: ") != std::string::npos);
  }
  const auto automatic = Engine::create(*plan, {.device = DeviceKind::kAuto});
  REQUIRE(automatic.ok());
  CHECK((*automatic)->device_name().starts_with(cuda.ok() ? "cuda-" : "cpu-"));
}

TEST_CASE("a batch gives each session the logits that it would get alone") {
  const auto engine = test::tiny_engine("w4a8-kv8");
  const std::vector<int32_t> tokens = test::sample_tokens(8);
  const int64_t vocabulary = engine->plan().plan().model().vocab_size();
  const auto session = [&](size_t prompt) {
    auto made = engine->new_session({});
    REQUIRE((*made)->run(std::span(tokens).first(prompt)).ok());
    return std::move(made).value();
  };
  const auto a = session(2);
  const auto b = session(5);
  Session* const both[] = {a.get(), b.get()};
  std::vector<float> values(2 * static_cast<size_t>(vocabulary));
  REQUIRE(
      engine->decode(both, std::span(tokens).subspan(5, 2), {values.data(), 2, vocabulary}).ok());
  const auto alone = [&](size_t prompt, size_t next) {
    return *session(prompt)->run(std::span(tokens).subspan(next, 1));
  };
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(vocabulary);
  CHECK(std::vector<float>(values.begin(), middle) == alone(2, 5));
  CHECK(std::vector<float>(middle, values.end()) == alone(5, 6));
  CHECK(a->position() == 3);
  CHECK(b->position() == 6);

  Session* const twice[] = {a.get(), a.get()};
  CHECK(engine->decode(twice, std::span(tokens).first(2), {values.data(), 2, vocabulary})
            .message()
            .find("twice") != std::string::npos);
  CHECK(engine->decode(both, std::span(tokens).first(1), {values.data(), 2, vocabulary})
            .message()
            .find("batch of 2 sessions with 1 tokens") != std::string::npos);
}

TEST_CASE("the greedy token is the one with the highest logit") {
  const auto engine = test::tiny_engine("w16a16");
  const std::vector<int32_t> tokens = test::sample_tokens(9);
  const std::vector<float> logits = *(*engine->new_session({}))->run(tokens);
  const auto best = (*engine->new_session({}))->run_next(tokens, {});
  REQUIRE(best.ok());
  CHECK(*best == std::max_element(logits.begin(), logits.end()) - logits.begin());
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

TEST_CASE("a plan may name the bit kernels for tokens of any width") {
  const auto bits = engine_with_kernel("w4a8-kv8", "cpu.bits");
  REQUIRE_MESSAGE(bits.ok(), bits.status().to_string());
  const std::vector<int32_t> tokens = test::sample_tokens(20);
  const auto run = [&](const Engine& engine) { return *(*engine.new_session({}))->run(tokens); };
  // Both families evaluate the integer identity exactly and round once per factor.
  CHECK(run(**bits) == run(*test::tiny_engine("w4a8-kv8")));
}

TEST_CASE("kernels that this build lacks or cannot run are reported together") {
  const std::string unknown = engine_with_kernel("w4a8-kv8", "cpu.int9").status().message();
  CHECK(unknown.find("layers.0.attn.q: kernel family 'cpu.int9': unknown") != std::string::npos);
  CHECK(unknown.find("layers.1.mlp.down: kernel family") != std::string::npos);
  const std::string groups = engine_with_kernel("w4a8-g32", "cpu.bits").status().message();
  CHECK(groups.find("cpu.bits: weights in groups of 32") != std::string::npos);
}

}  // namespace abq::runtime
