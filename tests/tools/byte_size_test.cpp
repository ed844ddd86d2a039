#include "tools/byte_size.h"

#include <doctest/doctest.h>

namespace abq::tools {

TEST_CASE("sizes are bytes, thousands or 1024s, in whole numbers or not") {
  CHECK(*parse_byte_size("123456789") == 123456789);
  CHECK(*parse_byte_size("7b") == 7);
  CHECK(*parse_byte_size("1500MB") == 1500000000);
  CHECK(*parse_byte_size("1.5GiB") == 1610612736);
  CHECK(*parse_byte_size("0.5kib") == 512);
  CHECK(*parse_byte_size("2.5k") == 2500);
  CHECK(*parse_byte_size("3T") == 3000000000000);
  CHECK(*parse_byte_size("1.9b") == 1);
}

TEST_CASE("what is no size is refused in its own words") {
  for (const char* text : {"", "GiB", "-1MB", "0", "0.5b", "1 GiB", "1Gi", "1PB", "1x", "nan",
                           "inf", "1e30", "1000000000T"}) {
    CAPTURE(text);
    const auto size = parse_byte_size(text);
    REQUIRE_FALSE(size.ok());
    CHECK(
        size.status().message() ==
        fmt::format("size '{}': expected a positive number of bytes such as 1500MB, 1.5GiB", text));
  }
}

}  // namespace abq::tools
