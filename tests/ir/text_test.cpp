#include "ir/text.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "ir/verifier.h"
#include "support/float16.h"
#include "tests/ir/tiny_model.h"

namespace abq::ir {

namespace {

Module parse_or_fail(std::string_view text) {
  Result<Module> module = parse(text);
  REQUIRE_MESSAGE(module.ok(), module.status().message());
  return std::move(*module);
}

std::string error_of(std::string_view text) {
  return parse(text, "t.air").status().message();
}

const Tensor& tensor_of(const Module& module, const std::string& name) {
  return module.tensors.at(name);
}

}  // namespace

TEST_CASE("a model prints, parses back and prints the same") {
  const Module module = make_tiny_model();
  REQUIRE(verify(module).ok());
  const std::string text = print(module);
  const Module parsed = parse_or_fail(text);
  CHECK(print(parsed) == text);
  CHECK(verify(parsed).ok());
  CHECK(parsed.regions.size() == module.regions.size());
  CHECK(std::get<std::string>(parsed.attributes.at("family")) == "llama");
  CHECK_FALSE(tensor_of(parsed, "embed.weight").data.present());
  CHECK(tensor_of(parsed, "embed.weight").digest.size() == 32);
}

TEST_CASE("the text of a small module reads as documented") {
  constexpr std::string_view kText = R"(module @m {context = 512, family = "llama", scale = 1.0}

tensor @norm.weight : f32[2] = [1, 2.5]
tensor @proj.weight : bf16[3, 2]

block @layers.0(%x: f32[T, 2]) -> (%proj) {
  %norm_weight = weight @norm.weight : f32[2]
  %norm = rms_norm "layers.0.norm" %x, %norm_weight {eps = 1e-05} : f32[T, 2]
  %proj_weight = weight @proj.weight : bf16[3, 2]
  %proj = linear "layers.0.proj" %norm, %proj_weight : f32[T, 3]
}
)";
  const Module module = parse_or_fail(kText);
  CHECK(print(module) == kText);
  CHECK(verify(module).ok());
}

TEST_CASE("comments and any whitespace may stand between tokens") {
  const Module module = parse_or_fail(
      "; first\nmodule@m{a=1,\tb = -2.5}// second\r\ntensor @t:f32[ 2 ]=[1,\n2]block "
      "@b(%x:f32[T,2])->"
      "(%x){}");
  CHECK(print(module) ==
        "module @m {a = 1, b = -2.5}\n\ntensor @t : f32[2] = [1, 2]\n\nblock @b(%x: f32[T, 2]) -> "
        "(%x) {\n}\n");
}

TEST_CASE("small tensors keep every bit of every element type") {
  Module module;
  module.name = "m";
  const std::vector<float> floats = {0.1f, -0.0f, 1e-45f, 3.4028235e38f,
                                     std::numeric_limits<float>::infinity()};
  module.tensors["f"] = make_f32_tensor({5}, floats);
  std::vector<uint16_t> halves, brains;
  for (const float value : {0.1f, 6e-8f, 65504.0f, -2.0f}) {
    halves.push_back(float_to_f16(value));
    brains.push_back(float_to_bf16(value));
  }
  module.tensors["h"] = make_tensor(ElementType::kF16, 0, {2, 2}, TensorData::from_vector(halves));
  module.tensors["b"] = make_tensor(ElementType::kBF16, 0, {4}, TensorData::from_vector(brains));
  module.tensors["u"] =
      make_tensor(ElementType::kU8, 0, {2}, TensorData::from_vector(std::vector<uint8_t>{0, 255}));
  module.tensors["i"] =
      make_tensor(ElementType::kI32, 0, {1}, TensorData::from_vector(std::vector<int32_t>{-7}));
  const Module parsed = parse_or_fail(print(module));
  for (const auto& [name, tensor] : module.tensors) {
    const auto before = tensor.data.bytes();
    const auto after = tensor_of(parsed, name).data.bytes();
    CHECK(std::vector(before.begin(), before.end()) == std::vector(after.begin(), after.end()));
  }
}

TEST_CASE("names and strings that need quotes get them") {
  Module module;
  module.name = "a b";
  module.attributes["s"] = std::string("q\"b\\n\n\t\x01");
  module.tensors["model-0/weight"] = make_f32_tensor({1}, {1});
  const std::string text = print(module);
  CHECK(text.find("@\"a b\" {s = \"q\\\"b\\\\n\\n\\t\\x01\"}") != std::string::npos);
  const Module parsed = parse_or_fail(text);
  CHECK(parsed.name == module.name);
  CHECK(parsed.attributes == module.attributes);
  CHECK(print(parsed) == text);
}

TEST_CASE("attributes keep their kind: a float never comes back as an integer") {
  Module module;
  module.name = "m";
  const double inf = std::numeric_limits<double>::infinity();
  module.attributes = {{"a", 1.0}, {"b", 1e300}, {"c", -inf}, {"d", int64_t{-5}}, {"e", 0.1}};
  CHECK(parse_or_fail(print(module)).attributes == module.attributes);
  module.attributes = {{"n", std::nan("")}};
  const Module parsed = parse_or_fail(print(module));
  CHECK(std::isnan(std::get<double>(parsed.attributes.at("n"))));
}

TEST_CASE("an integer is read as a float where the op wants one") {
  const Module module = parse_or_fail(
      "module @m tensor @w : f32[1] = [1] block @b(%x: f32[T, 1]) -> (%n) {\n"
      "%w = weight @w : f32[1]\n%n = rms_norm \"n\" %x, %w {eps = 0} : f32[T, 1] }");
  CHECK(module.regions[0].nodes[1].float_attribute("eps") == 0.0);
}

TEST_CASE("fill and random give tensors data, the same every time") {
  constexpr std::string_view kText =
      "module @m tensor @f : f16[20] = fill 1.5 tensor @r : f32[400, 10] = random seed 7 scale 0.5 "
      "tensor @u : u8[17] = fill 3 tensor @long : f32[17] = "
      "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,"
      "17]";
  const Module module = parse_or_fail(kText);
  CHECK(*to_float(tensor_of(module, "f")) == std::vector<float>(20, 1.5f));
  CHECK((*to_float(tensor_of(module, "long")))[16] == 17.0f);
  const std::vector<float> values = *to_float(tensor_of(module, "r"));
  double sum = 0, squares = 0;
  for (const float value : values) {
    sum += value;
    squares += static_cast<double>(value) * value;
  }
  CHECK(std::abs(sum / 4000) < 0.03);
  CHECK(squares / 4000 == doctest::Approx(0.25).epsilon(0.05));
  CHECK(print(module) == print(parse_or_fail(kText)));
  CHECK(print(module).find("tensor @r : f32[400, 10] digest \"") != std::string::npos);
}

TEST_CASE("errors name the place, what was found and what was expected") {
  CHECK(error_of("") == "t.air:1:1: found end of text, expected 'module'");
  CHECK(error_of("module m") == "t.air:1:8: found 'm', expected the module's name (@name)");
  CHECK(error_of("module @m\n  tensr") ==
        "t.air:2:3: found 'tensr', expected tensor, embed, block or head");
  CHECK(error_of("module @m {a = }") ==
        "t.air:1:16: found '}', expected an attribute value (integer, float or string)");
  CHECK(error_of("module @m {a = 1, a = 2}") ==
        "t.air:1:19: found 'a', expected an attribute that was not given yet");
  CHECK(error_of("module @m {a = 12x}") == "t.air:1:16: found '12x', expected a number in range");
  CHECK(
      error_of("module @m {a = \"x}") ==
      "t.air:1:16: found string without closing quote, expected an attribute value (integer, float "
      "or string)");
  CHECK(error_of("module @m \xff") ==
        "t.air:1:11: found byte 0xff, expected tensor, embed, block or head");
}

TEST_CASE("wrong tensors are refused where they stand") {
  const auto tensor_error = [](const std::string& rest) {
    return error_of("module @m tensor " + rest);
  };
  CHECK(tensor_error("@t : f32[2] = [1]") == "t.air:1:34: found ']', expected 1 more elements");
  CHECK(tensor_error("@t : f32[1] = [1, 2]") ==
        "t.air:1:36: found '2', expected ']' (the tensor has no more elements)");
  CHECK(tensor_error("@t : u8[1] = [256]") ==
        "t.air:1:32: found '256', expected a number that fits the element type");
  CHECK(tensor_error("@t : f32[T] = [1]") ==
        "t.air:1:23: found 'f32', expected a tensor type without a token dimension");
  CHECK(tensor_error("@t : tokens<8>[2]").find("quantized activations are values only") !=
        std::string::npos);
  CHECK(tensor_error("@t : planes<2>[2, 2] = fill 0").find("packed codes have no values") !=
        std::string::npos);
  CHECK(tensor_error("@t : f32[99999999, 9] = fill 0").find("at most 67108864 elements") !=
        std::string::npos);
  CHECK(tensor_error("@t : u8[2] = random seed 1 scale 1").find("a float tensor") !=
        std::string::npos);
  CHECK(tensor_error("@t : f32[2] digest \"12\"").find("32 hex digits") != std::string::npos);
  CHECK(tensor_error("@t : f32[1] tensor @t : f32[1]") ==
        "t.air:1:37: found @t, expected a tensor that was not declared yet");
}

TEST_CASE("wrong regions are refused where they stand") {
  const auto block_error = [](const std::string& body, const std::string& results = "%x") {
    return error_of("module @m block @b(%x: f32[T, 2]) -> (" + results + ") {\n" + body + "\n}");
  };
  CHECK(block_error("%y = conv \"c\" %x : f32[T, 2]") ==
        "t.air:2:6: found 'conv', expected an op of the op table");
  CHECK(block_error("%y = add \"a\" %x, %z : f32[T, 2]") ==
        "t.air:2:18: found %z, expected a value that is defined");
  CHECK(block_error("%y = add \"a\" %x, %y : f32[T, 2]") ==
        "t.air:2:18: found %y, expected a value that is defined");
  CHECK(block_error("%x = add \"a\" %x, %x : f32[T, 2]") ==
        "t.air:2:1: found %x, expected a value that was not defined yet");
  CHECK(block_error("", "%y") == "t.air:1:39: found %y, expected a value that is defined");
  CHECK(block_error("%y = add %x, %x : f32[T, 2]") ==
        "t.air:2:10: found %x, expected the node's name (a string)");
  CHECK(block_error("%w = weight \"w\" : f32[T, 2]") ==
        "t.air:2:13: found \"w\", expected a tensor name (@name)");
}

}  // namespace abq::ir
