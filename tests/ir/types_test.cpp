#include "ir/types.h"

#include <doctest/doctest.h>

#include "support/float16.h"

namespace abq::ir {

TEST_CASE("a type prints and parses back") {
  for (const char* text :
       {"f32[T, 384]", "bf16[1024, 128]", "i32[T]", "u8[3, 1]", "tokens<8>[T, 4]",
        "planes<3>[64, 100]", "base5<3>[2, 48]", "base3<2>[2, 48]", "f16[]"}) {
    const Result<Type> type = parse_type(text);
    REQUIRE_MESSAGE(type.ok(), type.status().message());
    CHECK(to_string(*type) == text);
  }
}

TEST_CASE("a type that is none is refused with its place") {
  CHECK(parse_type("f31[2]").status().message().starts_with("type:1:1: found 'f31', expected an "));
  CHECK(parse_type("f32[2").status().message() == "type:1:6: found end of text, expected ']'");
  CHECK(parse_type("f32[-1]").status().message().find("expected a dimension") != std::string::npos);
  CHECK(parse_type("planes<9>[2, 2]").status().message() ==
        "type:1:8: found '9', expected the bits of a code (1 to 8)");
  CHECK_FALSE(parse_type("planes[2, 2]").ok());
  CHECK_FALSE(parse_type("planes<2>[2]").ok());
  CHECK_FALSE(parse_type("f32[2] x").ok());
  CHECK_FALSE(parse_type("f32[70368744177664, 2]").ok());
}

TEST_CASE("byte sizes count the padding of packed rows") {
  CHECK(byte_size(*parse_type("f32[3, 5]")) == 60);
  CHECK(byte_size(*parse_type("bf16[3, 5]")) == 30);
  CHECK(byte_size(*parse_type("u8[3, 5]")) == 15);
  CHECK(byte_size(*parse_type("f32[]")) == 4);
  CHECK(byte_size(*parse_type("planes<3>[2, 129]")) == 2 * 3 * 32);
  CHECK(byte_size(*parse_type("base3<2>[2, 80]")) == 2 * 16);
}

TEST_CASE("float tensors of any type read as float32") {
  const std::vector<float> values = {1.0f, -0.5f, 3.25f};
  CHECK(*to_float(make_f32_tensor({3}, values)) == values);
  for (const ElementType type : {ElementType::kF16, ElementType::kBF16}) {
    std::vector<uint16_t> halves;
    for (const float value : values)
      halves.push_back(type == ElementType::kF16 ? float_to_f16(value) : float_to_bf16(value));
    const Tensor tensor = make_tensor(type, 0, {3}, TensorData::from_vector(halves));
    CHECK(*to_float(tensor) == values);
  }
}

TEST_CASE("a tensor without float values or without data is refused as such") {
  const Tensor codes =
      make_tensor(ElementType::kU8, 0, {1}, TensorData::from_vector(std::vector<uint8_t>{3}));
  CHECK(to_float(codes).status().message() ==
        "element type u8 is no float type; expected f32, f16 or bf16");
  CHECK(to_float(make_tensor(ElementType::kF32, 0, {1}, {})).status().message() ==
        "the tensor has no data");
}

}  // namespace abq::ir
