#include <doctest/doctest.h>

#include "tests/common/tiny_artifact.h"
#include "tests/tools/cli_support.h"

namespace abq::test {

TEST_CASE("doctor describes machine and binary") {
  const ProcessResult result = run_abq({"doctor"});
  check_ok(result);
  check_contains(field(result.out, "processor"), {"instruction set"});
  check_contains(field(result.out, "memory"), {"free of"});
  check_contains(field(result.out, "binary"), {"artifact format up to", "cpu"});
  check_contains(field(result.out, "learning"), {"on "});
}

TEST_CASE("doctor runs the self-test of an artifact") {
  for (const char* scheme : {"w16a16", "w4a4-kv4-q4", "w2ba8-g64"}) {
    CAPTURE(scheme);
    const ProcessResult result = run_abq({"doctor", tiny_artifact(scheme)});
    check_ok(result);
    CHECK(field(result.out, "self-test").starts_with("passed"));
    check_contains(field(result.out, "artifact"), {scheme, "every checksum right"});
    check_contains(field(result.out, "kernels"), {"x"});
  }
}

TEST_CASE("doctor refuses a damaged artifact") {
  const ScratchFolder folder;
  std::string bytes = read_bytes(tiny_artifact("w4a8"));
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  check_refused(run_abq({"doctor", folder.write("damaged.abq", bytes)}), {"damaged.abq"});
}

}  // namespace abq::test
