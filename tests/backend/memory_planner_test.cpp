#include "backend/memory_planner.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "support/random.h"

using namespace abq;

namespace {

struct Program {
  std::vector<proto::Step> steps;
  std::vector<proto::Buffer> buffers;

  uint32_t run(std::vector<uint32_t> inputs, int64_t columns,
               proto::Buffer::Kind kind = proto::Buffer::FLOAT) {
    buffers.emplace_back().set_columns(columns);
    buffers.back().set_kind(kind);
    const uint32_t output = static_cast<uint32_t>(buffers.size() - 1);
    proto::Step& step = steps.emplace_back();
    step.mutable_inputs()->Assign(inputs.begin(), inputs.end());
    step.set_output(output);
    return output;
  }
  uint32_t slots() const {
    uint32_t count = 0;
    for (const proto::Buffer& buffer : buffers)
      count = std::max(count, buffer.slot() + 1);
    return count;
  }
};

// Checks every pair of buffers by brute force.
void check_disjoint(const Program& program) {
  const auto end = [&](uint32_t buffer) {
    int last = 0;
    for (int i = 0; i < static_cast<int>(program.steps.size()); ++i) {
      const proto::Step& step = program.steps[static_cast<size_t>(i)];
      const auto& inputs = step.inputs();
      if (step.output() == buffer ||
          std::find(inputs.begin(), inputs.end(), buffer) != inputs.end())
        last = i;
    }
    return last;
  };
  // Step i writes buffer i here.
  for (uint32_t a = 0; a < program.buffers.size(); ++a) {
    for (uint32_t b = a + 1; b < program.buffers.size(); ++b) {
      if (program.buffers[a].slot() != program.buffers[b].slot()) continue;
      CHECK(program.buffers[a].kind() == program.buffers[b].kind());
      CHECK(end(a) < static_cast<int>(b));
    }
  }
}

}  // namespace

TEST_CASE("a chain needs two slots, since a step never writes over its input") {
  Program program;
  uint32_t x = program.run({}, 8);
  for (int i = 0; i < 10; ++i)
    x = program.run({x}, 8);
  backend::plan_slots(program.steps, &program.buffers);
  CHECK(program.slots() == 2);
  check_disjoint(program);
}

TEST_CASE("a residual stays in its slot until it is added") {
  Program program;
  const uint32_t x = program.run({}, 8);
  const uint32_t norm = program.run({x}, 8);
  const uint32_t up = program.run({norm}, 32);
  const uint32_t down = program.run({up}, 8);
  program.run({x, down}, 8);
  backend::plan_slots(program.steps, &program.buffers);
  check_disjoint(program);
  CHECK(program.slots() == 3);
}

TEST_CASE("buffers of different kinds never share a slot") {
  Program program;
  uint32_t x = program.run({}, 8);
  for (int i = 0; i < 4; ++i)
    x = program.run({program.run({x}, 8, proto::Buffer::TOKENS)}, 8);
  backend::plan_slots(program.steps, &program.buffers);
  check_disjoint(program);
}

TEST_CASE("random programs never let live buffers share a slot") {
  Random random(1);
  for (int trial = 0; trial < 50; ++trial) {
    Program program;
    program.run({}, 8);
    for (uint32_t i = 1; i < 40; ++i) {
      std::vector<uint32_t> inputs;
      for (uint64_t count = random.below(4); count > 0; --count)
        inputs.push_back(i - 1 - static_cast<uint32_t>(random.below(std::min<uint64_t>(i, 6))));
      program.run(inputs, 1 + static_cast<int64_t>(random.below(64)),
                  random.below(2) == 0 ? proto::Buffer::FLOAT : proto::Buffer::TOKENS);
    }
    backend::plan_slots(program.steps, &program.buffers);
    check_disjoint(program);
    CHECK(program.slots() < 20);
  }
}
