#include "frontend/safetensors.h"

#include <doctest/doctest.h>

#include "tests/frontend/model_folder.h"

using namespace abq;
using namespace abq::frontend;
using namespace abq::frontend::testing;

namespace {

Result<SafetensorsFile> open_bytes(const ModelFolder& folder, std::string_view bytes) {
  folder.write("x.safetensors", bytes);
  return SafetensorsFile::open(folder.file("x.safetensors"));
}

Status open_parts(std::string_view header, std::string_view data) {
  const ModelFolder folder;
  return open_bytes(folder, safetensors_bytes(header, data)).status();
}

}  // namespace

TEST_CASE("tensors of every readable dtype come back with their shape and bytes") {
  const ModelFolder folder;
  const auto file =
      open_bytes(folder, safetensors_bytes({
                             {"a", {"F32", {1, 2}, std::string("\0\0\x80\x3f\0\0\0\x40", 8)}},
                             {"b", {"BF16", {2}, std::string("\x80\x3f\0\x40", 4)}},
                             {"c", {"F16", {}, std::string("\0\x3c", 2)}},
                             {"d", {"I32", {1}, std::string("\x07\0\0\0", 4)}},
                             {"empty", {"F32", {0, 4}, ""}},
                         }));
  REQUIRE(file.ok());
  CHECK(file->entries().size() == 5);
  CHECK(*ir::to_float(*file->tensor("a")) == std::vector<float>{1.0f, 2.0f});
  CHECK(*ir::to_float(*file->tensor("b")) == std::vector<float>{1.0f, 2.0f});
  CHECK(*ir::to_float(*file->tensor("c")) == std::vector<float>{1.0f});
  CHECK(file->tensor("a")->type.shape == std::vector<int64_t>{1, 2});
  CHECK(file->tensor("c")->type.shape.empty());
  CHECK(file->tensor("d")->type.element == ir::ElementType::kI32);
  CHECK(file->tensor("empty")->data.bytes().empty());
  expect_error(file->tensor("absent").status(), StatusCode::kNotFound, {"no tensor absent"});
}

TEST_CASE("a header of odd length leaves the values right") {
  const ModelFolder folder;
  const std::string header = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  for (size_t spaces = 0; spaces < 4; ++spaces) {
    const auto file = open_bytes(folder, safetensors_bytes(header + std::string(spaces, ' '),
                                                           std::string("\0\0\x80\x3f", 4)));
    REQUIRE(file.ok());
    const auto tensor = file->tensor("a");
    REQUIRE(tensor.ok());
    CHECK(reinterpret_cast<uintptr_t>(tensor->data.bytes().data()) % 4 == 0);
    CHECK(*ir::to_float(*tensor) == std::vector<float>{1.0f});
  }
}

TEST_CASE("a dtype that is no weight is listed but not handed out, an unknown one is refused") {
  const ModelFolder folder;
  const auto file = open_bytes(folder, safetensors_bytes({{"a", {"I8", {3}, "abc"}}}));
  REQUIRE(file.ok());
  CHECK(file->entries().at("a").dtype == "I8");
  expect_error(file->tensor("a").status(), StatusCode::kUnsupported,
               {"a: dtype I8 is not supported; expected F32, F16 or BF16"});
  expect_error(open_parts(R"({"a":{"dtype":"Q7","shape":[1],"data_offsets":[0,4]}})", "1234"),
               StatusCode::kUnsupported, {R"(a: unknown dtype "Q7")"});
}

TEST_CASE("files too short for their header are refused") {
  const ModelFolder folder;
  expect_error(open_bytes(folder, "").status(), StatusCode::kCorrupt, {"0 bytes is too short"});
  expect_error(open_bytes(folder, "1234567").status(), StatusCode::kCorrupt, {"7 bytes"});
  expect_error(open_bytes(folder, std::string("\x10\0\0\0\0\0\0\0{}", 10)).status(),
               StatusCode::kCorrupt, {"header of 16 bytes goes beyond the file of 10"});
  expect_error(open_bytes(folder, std::string(8, '\xff') + "{}").status(), StatusCode::kCorrupt,
               {"header of 18446744073709551615 bytes is over the format's limit of 100000000"});
  expect_error(SafetensorsFile::open(folder.file("absent")).status(), StatusCode::kNotFound,
               {"no such file"});
}

TEST_CASE("a header that is no JSON, or names a tensor twice, is refused") {
  expect_error(open_parts("not json", ""), StatusCode::kCorrupt, {"header: not valid JSON"});
  expect_error(open_parts("[]", ""), StatusCode::kCorrupt, {"expected a JSON object"});
  expect_error(open_parts(R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},)"
                          R"("a":{"dtype":"I8","shape":[1],"data_offsets":[1,2]}})",
                          "12"),
               StatusCode::kCorrupt, {R"(key "a" occurs twice)"});
}

TEST_CASE("incomplete tensor records are refused, each with its field") {
  expect_error(open_parts(R"({"a": 3})", ""), StatusCode::kCorrupt, {"a: expected an object"});
  expect_error(open_parts(R"({"a":{"shape":[1],"data_offsets":[0,1]}})", "1"), StatusCode::kCorrupt,
               {"a: dtype is missing"});
  expect_error(open_parts(R"({"a":{"dtype":"I8","data_offsets":[0,1]}})", "1"),
               StatusCode::kCorrupt, {"a: shape is missing"});
  expect_error(open_parts(R"({"a":{"dtype":"I8","shape":[-1],"data_offsets":[0,1]}})", "1"),
               StatusCode::kCorrupt, {"a: shape is missing or not a list of non-negative"});
  expect_error(open_parts(R"({"a":{"dtype":"I8","shape":[1.5],"data_offsets":[0,1]}})", "1"),
               StatusCode::kCorrupt, {"a: shape is missing or not a list of non-negative"});
  expect_error(open_parts(R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0]}})", "1"),
               StatusCode::kCorrupt, {"a: data_offsets is missing"});
}

TEST_CASE("offsets out of range, backwards or of the wrong length are refused") {
  expect_error(open_parts(R"({"a":{"dtype":"I8","shape":[9],"data_offsets":[0,9]}})", "1234"),
               StatusCode::kCorrupt, {"data_offsets [0, 9] are out of range", "4 bytes of data"});
  expect_error(open_parts(R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[2,1]}})", "1234"),
               StatusCode::kCorrupt, {"data_offsets [2, 1] are out of range"});
  expect_error(
      open_parts(R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,9223372036854775807]}})", "1"),
      StatusCode::kCorrupt, {"out of range"});
  expect_error(open_parts(R"({"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,4]}})", "1234"),
               StatusCode::kCorrupt, {"F32 [2, 1] takes 8 bytes, but data_offsets [0, 4] hold 4"});
  expect_error(open_parts(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],)"
                          R"("data_offsets":[0,0]}})",
                          ""),
               StatusCode::kCorrupt, {"more than 2^64 bytes"});
}

TEST_CASE("overlaps, holes and left-over bytes are refused") {
  expect_error(open_parts(R"({"a":{"dtype":"I8","shape":[3],"data_offsets":[0,3]},)"
                          R"("b":{"dtype":"I8","shape":[2],"data_offsets":[2,4]}})",
                          "1234"),
               StatusCode::kCorrupt, {"tensors a and b overlap at data byte 2"});
  expect_error(open_parts(R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},)"
                          R"("b":{"dtype":"I8","shape":[2],"data_offsets":[2,4]}})",
                          "1234"),
               StatusCode::kCorrupt, {"data bytes [1, 2) before b belong to no tensor"});
  expect_error(open_parts(R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})", "1234"),
               StatusCode::kCorrupt, {"3 bytes after the last tensor"});
}
