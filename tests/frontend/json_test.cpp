#include "frontend/json.h"

#include <doctest/doctest.h>

#include "tests/frontend/model_folder.h"

using namespace abq;
using namespace abq::frontend;
using abq::frontend::testing::expect_error;

namespace {

Status parse(std::string_view text) {
  return parse_json_object(text, "x.json", StatusCode::kCorrupt).status();
}

}  // namespace

TEST_CASE("a syntax error is reported with line and column") {
  expect_error(parse("{\n  \"a\": 1,\n  \"b\": oops\n}"), StatusCode::kCorrupt,
               {"x.json: not valid JSON at line 3, column 8"});
  expect_error(parse(""), StatusCode::kCorrupt, {"x.json: not valid JSON at line 1, column 1"});
  expect_error(parse("{\"a\": 1} trailing"), StatusCode::kCorrupt, {"not valid JSON at line 1"});
  expect_error(parse("{\"a\": \"\xff\"}"), StatusCode::kCorrupt, {"not valid JSON at line 1"});
}

TEST_CASE("a key that occurs twice in one object is refused at any depth") {
  expect_error(parse(R"({"a": 1, "b": 2, "a": 3})"), StatusCode::kCorrupt,
               {R"(x.json: key "a" occurs twice)"});
  expect_error(parse(R"({"o": [{"k": 1, "k": 2}]})"), StatusCode::kCorrupt, {R"(key "k")"});
  CHECK(parse(R"({"a": {"k": 1}, "b": {"k": 1}, "k": [{"k": 1}, {"k": 2}]})").ok());
}

TEST_CASE("values that are no object, huge numbers and deep nesting are refused") {
  expect_error(parse("[1, 2]"), StatusCode::kCorrupt, {"expected a JSON object, got an array"});
  expect_error(parse("{\"a\": 1e999}"), StatusCode::kCorrupt, {"x.json: not usable JSON"});
  const std::string deep = std::string(100000, '[');
  expect_error(parse("{\"a\": " + deep + std::string(100000, ']') + "}"), StatusCode::kCorrupt,
               {"nested deeper than 64 levels"});
  expect_error(parse("{\"a\": " + deep), StatusCode::kCorrupt, {"nested deeper than 64 levels"});
}

TEST_CASE("a header of very many tensors is read in linear time") {
  // Quadratic in the members, this would take minutes.
  std::string text = "{";
  for (int i = 0; i < 100000; ++i)
    text += fmt::format("{}\"tensor {}\": {{\"shape\": []}}", i == 0 ? "" : ",", i);
  CHECK(parse(text + "}").ok());
}

TEST_CASE("field errors name the field, what was expected and what was found") {
  const Json json =
      Json::parse(R"({"n": 5, "big": 18446744073709551615, "minus": -1, "half": 1.5, )"
                  R"("s": "text", "null": null})");
  const FieldReader fields(json, "x.json");
  CHECK(*fields.integer("n", 1, 10) == 5);
  CHECK(*fields.integer_or("null", 1, 10, 7) == 7);
  CHECK(*fields.integer_or("absent", 1, 10, 7) == 7);
  CHECK(*fields.number("half", 0.0, 2.0) == 1.5);
  expect_error(fields.integer("n", 6, 10).status(), StatusCode::kInvalidArgument,
               {"x.json: n: expected an integer from 6 to 10, got 5"});
  expect_error(fields.integer("big", 1, 10).status(), StatusCode::kInvalidArgument,
               {"got 18446744073709551615"});
  expect_error(fields.integer("minus", 1, 10).status(), StatusCode::kInvalidArgument, {"got -1"});
  expect_error(fields.integer("half", 1, 10).status(), StatusCode::kInvalidArgument, {"got 1.5"});
  expect_error(fields.integer("s", 1, 10).status(), StatusCode::kInvalidArgument,
               {R"(got "text")"});
  expect_error(fields.integer("null", 1, 10).status(), StatusCode::kInvalidArgument,
               {"the field is missing"});
  expect_error(fields.boolean_or("n", true).status(), StatusCode::kInvalidArgument,
               {"expected true or false, got 5"});
  expect_error(fields.text("n").status(), StatusCode::kInvalidArgument, {"expected a string"});
  expect_error(fields.object("n").status(), StatusCode::kInvalidArgument, {"expected an object"});
}
