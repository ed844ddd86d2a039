#include "support/status.h"

#include <doctest/doctest.h>

#include <memory>

using namespace abq;

namespace {

Result<int> half_of(int value) {
  if (value % 2 != 0) return invalid_argument("{} is odd", value);
  return value / 2;
}

Result<int> quarter_of(int value) {
  ABQ_ASSIGN_OR_RETURN(const int half, half_of(value));
  return half_of(half);
}

Status check_quarter(int value) {
  ABQ_RETURN_IF_ERROR(quarter_of(value).status().with_context("quarter"));
  return {};
}

}  // namespace

TEST_CASE("a status is ok until it carries an error") {
  CHECK(Status().ok());
  CHECK(Status().to_string() == "ok");
  const Status error = corrupt("blob {}: checksum {:x}", 3, 255);
  CHECK(!error.ok());
  CHECK(error.code() == StatusCode::kCorrupt);
  CHECK(error.message() == "blob 3: checksum ff");
  CHECK(error.to_string() == "corrupt: blob 3: checksum ff");
}

TEST_CASE("every code has its maker and its name") {
  CHECK(invalid_argument("x").to_string() == "invalid argument: x");
  CHECK(not_found("x").to_string() == "not found: x");
  CHECK(unsupported("x").to_string() == "unsupported: x");
  CHECK(io_error("x").to_string() == "i/o error: x");
  CHECK(device_error("x").to_string() == "device error: x");
  CHECK(internal_error("x").to_string() == "internal error: x");
}

TEST_CASE("context goes in front of a message and leaves ok alone") {
  const Status error = invalid_argument("bad").with_context("layers.3").with_context("model");
  CHECK(error.message() == "model: layers.3: bad");
  CHECK(error.code() == StatusCode::kInvalidArgument);
  CHECK(Status().with_context("model").ok());
}

TEST_CASE("results hand on values and errors") {
  CHECK(*quarter_of(12) == 3);
  CHECK(quarter_of(12).status().ok());
  CHECK(quarter_of(7).status().message() == "7 is odd");
  CHECK(quarter_of(6).status().message() == "3 is odd");
  CHECK(check_quarter(8).ok());
  CHECK(check_quarter(6).message() == "quarter: 3 is odd");
}

TEST_CASE("a result moves a value that cannot be copied") {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(5);
  REQUIRE(result.ok());
  const std::unique_ptr<int> value = std::move(result).value();
  CHECK(*value == 5);
}
