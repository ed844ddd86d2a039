// Damaged text must give an error or another module, never a crash (the sanitizers watch).
#include <doctest/doctest.h>

#include "ir/text.h"
#include "ir/verifier.h"
#include "support/random.h"
#include "tests/ir/tiny_model.h"

namespace abq::ir {

namespace {

std::string sample_text() {
  TinyShape shape;
  shape.layers = 1;
  return print(make_tiny_model(shape)) +
         "// data forms\ntensor @\"a b\" : f16[3] = fill 1e-3\ntensor @r : f32[4] = random seed 7 "
         "scale "
         "0.5\ntensor @v : i32[2] = [-1, 2]\ntensor @p : planes<3>[2, 20]\n";
}

// What comes out must be printable, verifiable and, once printed, stable.
void check_survives(const std::string& text) {
  const Result<Module> module = parse(text, "t");
  if (!module.ok()) {
    CHECK(module.status().message().starts_with("t:"));
    return;
  }
  static_cast<void>(verify(*module).ok());
  const std::string printed = print(*module);
  const Result<Module> again = parse(printed);
  REQUIRE_MESSAGE(again.ok(), again.status().message() << "\n" << printed);
  CHECK(print(*again) == printed);
}

}  // namespace

TEST_CASE("text cut at any byte is refused or parses") {
  const std::string text = sample_text();
  REQUIRE(parse(text).ok());
  for (size_t size = 0; size < text.size(); ++size)
    check_survives(text.substr(0, size));
}

TEST_CASE("text with any byte replaced is refused or parses") {
  const std::string text = sample_text();
  Random random(1);
  for (size_t at = 0; at < text.size(); ++at) {
    std::string damaged = text;
    damaged[at] = static_cast<char>(random.below(256));
    check_survives(damaged);
  }
}

TEST_CASE("text with runs of bytes cut out, doubled or swapped is refused or parses") {
  const std::string text = sample_text();
  Random random(2);
  for (int i = 0; i < 1000; ++i) {
    std::string damaged = text;
    const size_t from = random.below(text.size());
    const size_t length = 1 + random.below(40);
    switch (random.below(3)) {
      case 0:
        damaged.erase(from, length);
        break;
      case 1:
        damaged.insert(random.below(text.size()), text.substr(from, length));
        break;
      default:
        damaged.replace(from, length, text.substr(random.below(text.size()), length));
    }
    check_survives(damaged);
  }
}

}  // namespace abq::ir
