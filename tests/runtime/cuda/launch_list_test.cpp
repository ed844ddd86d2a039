#include "runtime/cuda/engine/launch_list.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>

#include "runtime/plan_program.h"
#include "tests/common/tiny_artifact.h"

namespace abq::runtime::cuda {
namespace {

Program tiny_program(const std::string& scheme) {
  const auto plan = LoadedPlan::open(test::tiny_artifact(scheme), Verify::kAll);
  REQUIRE_MESSAGE(plan.ok(), plan.status().to_string());
  return make_program(*plan);
}

LaunchList launches_of(const Program& program) {
  Result<LaunchList> list = make_launch_list(program);
  REQUIRE_MESSAGE(list.ok(), list.status().to_string());
  return std::move(list).value();
}

template <class Operation>
std::vector<Operation> all(const LaunchList& list) {
  std::vector<Operation> result;
  for (const Launch& launch : list.launches) {
    if (const auto* operation = std::get_if<Operation>(&launch.operation))
      result.push_back(*operation);
  }
  return result;
}

int layers(const Program& program) {
  return static_cast<int>(
      std::count_if(program.steps.begin(), program.steps.end(), [](const Program::Step& step) {
        return std::holds_alternative<Program::Attention>(step.operation);
      }));
}

}  // namespace

TEST_CASE("a quantized block becomes nine launches, and one of weights alone eleven") {
  struct Case {
    const char* scheme;
    size_t in_a_block;
  };
  // norm+quantize, qkv, attention, quantize (prompts), o, norm+quantize, gate|up, quantize, down
  // against split and plain norms.
  for (const Case& c : {Case{"w4a8-kv8", 9}, Case{"w2ba8", 9}, Case{"w4a16", 11}}) {
    CAPTURE(std::string(c.scheme));
    const Program program = tiny_program(c.scheme);
    const LaunchList list = launches_of(program);
    const size_t blocks = static_cast<size_t>(layers(program));
    CHECK(list.launches.size() == blocks * c.in_a_block + 3);  // embedding, last norm, head
    CHECK(all<AddLaunch>(list).empty());
    CHECK(all<RotaryLaunch>(list).empty());
    CHECK(all<SiluMulLaunch>(list).empty());
  }
}

TEST_CASE("every step belongs to exactly one launch, attention's quantization aside") {
  const Program program = tiny_program("w4a8-kv8");
  std::vector<int> count(program.steps.size(), 0);
  for (const Launch& launch : launches_of(program).launches) {
    for (const int step : launch.steps)
      ++count[static_cast<size_t>(step)];
  }
  CHECK(std::all_of(count.begin(), count.end(), [](int n) { return n == 1; }));
}

TEST_CASE("queries, keys and values are stacked, gates and ups interleaved, sums fused") {
  const Program program = tiny_program("w4a8-kv8");
  const LaunchList list = launches_of(program);
  const auto linears = all<QuantizedLinearLaunch>(list);
  REQUIRE(linears.size() == static_cast<size_t>(4 * layers(program)));
  CHECK(linears[0].parts.size() == 3);
  CHECK_FALSE(linears[0].gated);
  CHECK_FALSE(linears[0].residual.present());
  CHECK(linears[1].parts.size() == 1);
  CHECK(linears[1].residual.present());
  CHECK(linears[2].parts.size() == 2);
  CHECK(linears[2].gated);
  CHECK(linears[3].residual.present());
  const auto attention = all<AttentionLaunch>(list);
  CHECK(attention[0].query_rope != kNone);
  CHECK(attention[0].key_rope != kNone);
  CHECK(attention[0].tokens != kNone);
  CHECK_FALSE(attention[0].y_is_read);
  // Side by side in one storage.
  CHECK(attention[0].q.storage == attention[0].v.storage);
  CHECK(attention[0].k.column == attention[0].q.columns);
  CHECK(attention[0].v.column == attention[0].q.columns + attention[0].k.columns);
}

TEST_CASE("the row-wise tail starts behind the last attention") {
  const LaunchList list = launches_of(tiny_program("w4a8-kv8"));
  REQUIRE(list.first_row_wise > 0);
  CHECK(std::holds_alternative<AttentionLaunch>(
      list.launches[static_cast<size_t>(list.first_row_wise - 1)].operation));
}

TEST_CASE("storages that live together never share bytes, others may") {
  const std::array<Storage, 4> storages = {
      Storage{Storage::Kind::kFloat, 1, 0, 0, 2}, Storage{Storage::Kind::kFloat, 1, 0, 1, 3},
      Storage{Storage::Kind::kFloat, 1, 0, 3, 4}, Storage{Storage::Kind::kFloat, 1, 0, 5, 6}};
  const std::array<int64_t, 4> sizes = {1000, 300, 700, 900};
  const MemoryPlan plan = plan_memory(storages, sizes);
  for (size_t a = 0; a < storages.size(); ++a) {
    for (size_t b = a + 1; b < storages.size(); ++b) {
      if (storages[a].last < storages[b].first || storages[b].last < storages[a].first) continue;
      CAPTURE(a);
      CAPTURE(b);
      CHECK((plan.offsets[a] + sizes[a] <= plan.offsets[b] ||
             plan.offsets[b] + sizes[b] <= plan.offsets[a]));
    }
  }
  CHECK(plan.bytes <= 1000 + 24 + 300);  // the second pair reuses what the first one left
}

TEST_CASE("every storage of a real list is written before it is read, and memory is reused") {
  const LaunchList list = launches_of(tiny_program("w4a8-kv8"));
  std::vector<int64_t> sizes;
  int64_t sum = 0;
  for (const Storage& storage : list.storages) {
    CHECK(storage.first <= storage.last);
    sizes.push_back(storage.columns * 4);
    sum += sizes.back();
  }
  CHECK(plan_memory(list.storages, sizes).bytes < sum / 2);
}

TEST_CASE("attention transforms its heads itself, the rest is quantized by the same launch") {
  const Program program = tiny_program("w4a4-kv4-q4+rotate");
  const LaunchList list = launches_of(program);
  const auto blocks = static_cast<size_t>(layers(program));
  const auto transforms = all<HadamardLaunch>(list);
  REQUIRE(transforms.size() == blocks);
  CHECK(
      std::get<Program::Hadamard>(program.steps[static_cast<size_t>(transforms[0].step)].operation)
          .size == 384);
  CHECK(transforms[0].x.columns == 384);
  CHECK(transforms[0].y.columns == 384);
  CHECK(list.launches.size() == blocks * 9 + 3);  // as many as without a rotation
  CHECK(all<RotaryLaunch>(list).empty());
  for (const AttentionLaunch& attention : all<AttentionLaunch>(list)) {
    CHECK(attention.query_rope != kNone);
    CHECK(attention.key_rope != kNone);
    for (const int transform : {attention.query_transform, attention.key_transform}) {
      REQUIRE(transform != kNone);
      CHECK(std::holds_alternative<Program::Hadamard>(
          program.steps[static_cast<size_t>(transform)].operation));
    }
    CHECK(attention.query_transform != attention.key_transform);
    // Still side by side, as the linear left them.
    CHECK(attention.q.storage == attention.v.storage);
  }
  std::vector<int> count(program.steps.size(), 0);
  for (const Launch& launch : list.launches) {
    for (const int step : launch.steps)
      ++count[static_cast<size_t>(step)];
  }
  CHECK(std::all_of(count.begin(), count.end(), [](int n) { return n == 1; }));
}

TEST_CASE("a down projection's transform lies behind the gates and makes the codes of its tokens") {
  for (const char* scheme : {"w8a8+rotate", "w4a16+rotate"}) {
    CAPTURE(std::string(scheme));
    const LaunchList list = launches_of(tiny_program(scheme));
    const auto found =
        std::find_if(list.launches.begin(), list.launches.end(), [](const Launch& launch) {
          return std::holds_alternative<HadamardLaunch>(launch.operation);
        });
    REQUIRE(found != list.launches.end());
    const auto& transform = std::get<HadamardLaunch>(found->operation);
    const auto& gates = std::get<QuantizedLinearLaunch>((found - 1)->operation);
    CHECK(gates.gated);
    CHECK(gates.y.storage == transform.x.storage);
    if (const auto* down = std::get_if<QuantizedLinearLaunch>(&(found + 1)->operation)) {
      CHECK(found->steps.size() == 2);
      CHECK(transform.tokens != kNone);
      CHECK(transform.tokens == down->input);
      CHECK_FALSE(transform.y_is_read);
      const Storage& scratch = list.storages[static_cast<size_t>(transform.y.storage)];
      CHECK(scratch.first == scratch.last);
    } else {
      CHECK(transform.tokens == kNone);
      const auto* split = std::get_if<SplitLaunch>(&(found + 1)->operation);
      REQUIRE(split != nullptr);
      CHECK(split->x.storage == transform.y.storage);
    }
  }
}

TEST_CASE("a transform that others read too leaves its values behind its codes") {
  Program program = tiny_program("w8a8+rotate");
  const auto found =
      std::find_if(program.steps.begin(), program.steps.end(), [](const Program::Step& step) {
        return std::holds_alternative<Program::Hadamard>(step.operation) &&
               std::get<Program::Hadamard>(step.operation).size == 384;
      });
  REQUIRE(found != program.steps.end());
  program.buffers.push_back(program.buffers[found->output]);
  const auto sum = static_cast<uint32_t>(program.buffers.size() - 1);
  const auto behind = (found + 2) - program.steps.begin();  // its quantization is the next step
  program.steps.insert(program.steps.begin() + behind,
                       {"twice", {found->output, found->output}, sum, Program::Add{}});
  const LaunchList list = launches_of(program);
  const auto transforms = all<HadamardLaunch>(list);
  REQUIRE(transforms.size() == static_cast<size_t>(layers(program)));
  CHECK(transforms[0].tokens != kNone);
  CHECK(transforms[0].y_is_read);
  CHECK_FALSE(transforms[1].y_is_read);
  const auto sums = all<AddLaunch>(list);
  REQUIRE(sums.size() == 1);
  CHECK(sums[0].a.storage == transforms[0].y.storage);
}

TEST_CASE("transforms that attention cannot take are launches of their own") {
  struct Turn {
    int64_t size;
    bool fused;
  };
  for (const Turn& turn : {Turn{32, true}, Turn{16, false}, Turn{12, false}}) {
    CAPTURE(turn.size);
    Program program = tiny_program("w4a4-kv4-q4+rotate");
    for (size_t i = 0; i + 1 < program.steps.size(); ++i) {
      if (!std::holds_alternative<Program::Rope>(program.steps[i].operation)) continue;
      for (Program::Step& step : program.steps) {
        auto* const transform = std::get_if<Program::Hadamard>(&step.operation);
        if (transform != nullptr && step.inputs[0] == program.steps[i].output)
          transform->size = turn.size;
      }
    }
    const LaunchList list = launches_of(program);
    const auto blocks = static_cast<size_t>(layers(program));
    CHECK(all<HadamardLaunch>(list).size() == (turn.fused ? blocks : 3 * blocks));
    CHECK(all<RotaryLaunch>(list).size() == (turn.fused ? 0 : 2 * blocks));
    for (const AttentionLaunch& attention : all<AttentionLaunch>(list)) {
      CHECK((attention.query_transform != kNone) == turn.fused);
      CHECK((attention.key_rope != kNone) == turn.fused);
    }
  }
}

}  // namespace abq::runtime::cuda
