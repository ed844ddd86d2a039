#include <doctest/doctest.h>

#include "tests/tools/cli_support.h"

namespace abq::test {
namespace {

constexpr const char* kModule = R"(module @m

tensor @a : f32[2, 4] = [1, -0.5, 0.25, 0, -1, -2, -3, -4]

block @layers.0(%x: f32[T, 4]) -> (%a) {
  %a_weight = weight @a : f32[2, 4]
  %a = linear "layers.0.a" %x, %a_weight : f32[T, 2]
}
)";

}  // namespace

TEST_CASE("opt lists the passes with a line of help each") {
  const ProcessResult result = run_abq({"opt", "--list"});
  check_ok(result);
  for (const char* pass : {"calibrate", "smooth", "assign-schemes", "quantize", "pack-weights"}) {
    CHECK_FALSE(field(result.out, pass).empty());
  }
}

TEST_CASE("opt prints a module that it prints again unchanged") {
  const ScratchFolder folder;
  const ProcessResult once = run_abq({"opt", folder.write("m.air", kModule)});
  check_ok(once);
  check_contains(once.out, {"linear \"layers.0.a\""});
  const ProcessResult twice = run_abq({"opt", "-"}, {.input = once.out});
  check_ok(twice);
  CHECK(twice.out == once.out);
}

TEST_CASE("opt runs passes with a scheme") {
  const ScratchFolder folder;
  const ProcessResult result = run_abq({"opt", "--passes=assign-schemes,quantize", "--scheme",
                                        "w4a8", folder.write("m.air", kModule)});
  check_ok(result);
  check_contains(result.out, {"@a.codes : u8[2, 4] = [15, 0, 7, 5, 11, 8, 4, 0]"});
}

TEST_CASE("opt refuses garbage with name and line and column") {
  const ScratchFolder folder;
  const std::string garbage = folder.write("garbage.air", "module @m\n\nrubbish here\n");
  check_refused(run_abq({"opt", garbage}), {garbage + ":3:1: "});
  check_refused(run_abq({"opt", "-"}, {.input = std::string("\0\xFF", 2)}), {":1:1: "});
}

TEST_CASE("opt refuses passes and inputs that do not exist") {
  const ScratchFolder folder;
  const std::string input = folder.write("m.air", kModule);
  check_refused(run_abq({"opt", "--passes=quantise", input}), {"quantise"});
  check_refused(run_abq({"opt", "--scheme", "w9", input}), {"w9"});
  check_refused(run_abq({"opt", folder.file("absent.air")}), {"absent.air"});
  check_refused(run_abq({"opt"}), {"no input"});
}

}  // namespace abq::test
