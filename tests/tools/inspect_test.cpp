#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/common/tiny_artifact.h"
#include "tests/tools/cli_support.h"

namespace abq::test {

TEST_CASE("inspect shows model and scheme and bits and every layer") {
  const ProcessResult result = run_abq({"inspect", tiny_artifact("w2ba8-g64")});
  check_ok(result);
  CHECK(field(result.out, "model").starts_with("llama: 2 layers, hidden 128"));
  check_contains(field(result.out, "scheme"), {"w2ba8-g64", "method rtn"});
  check_contains(field(result.out, "linears"), {"true bits per weight"});
  check_contains(field(result.out, "calibration"), {"not calibrated"});
  check_contains(field(result.out, "compiled by"), {"abq "});
  for (const char* layer : {"0.attn.q", "0.attn.k", "0.attn.v", "0.attn.o", "0.mlp.gate",
                            "0.mlp.up", "0.mlp.down", "1.attn.q", "1.mlp.down"}) {
    check_contains(field(result.out, std::string("layers.") + layer), {"base5"});
  }
}

TEST_CASE("inspect --json is a document with all of the report") {
  const ProcessResult result = run_abq({"inspect", tiny_artifact("w2ba8-g64"), "--json"});
  check_ok(result);
  const nlohmann::json report = nlohmann::json::parse(result.out, nullptr, false);
  REQUIRE(report.is_object());
  CHECK(report["model"]["layers"] == 2);
  CHECK(report["model"]["hidden_size"] == 128);
  CHECK(report["model"]["vocab_size"] == 1024);
  CHECK(report["recipe"]["scheme"] == "w2ba8-g64");
  CHECK(report["recipe"]["method"] == "rtn");
  CHECK(report["file_bytes"] == read_bytes(tiny_artifact("w2ba8-g64")).size());
  const double bits = report["block_linear_bits"];
  CHECK(bits > 2.33);  // and a float scale and a zero point for every 64 weights
  CHECK(bits < 4.5);
  REQUIRE(report["layers"].size() == 14);
  int64_t weights = 0;
  for (const nlohmann::json& layer : report["layers"]) {
    CAPTURE(layer.dump());
    CHECK(layer["encoding"] == "base5");
    CHECK(layer["scheme"] == "w2ba8-g64");
    CHECK(layer["packed_bytes"] > 0);
    CHECK_FALSE(layer["kernel"].get<std::string>().empty());
    const double sqnr = layer["weight"]["sqnr_db"];
    CHECK(sqnr > 0);
    CHECK(sqnr < 40);
    CHECK(layer["weight"]["cosine"] > 0.8);
    CHECK(layer["weight"]["max_error"] > 0);
    weights += layer["n"].get<int64_t>() * layer["k"].get<int64_t>();
  }
  CHECK(weights == 2 * (128 * 128 * 2 + 64 * 128 * 2 + 128 * 384 * 3));
  CHECK(report["provenance"]["inputs"].size() >= 3);
}

TEST_CASE("inspect refuses what is no whole artifact") {
  const ScratchFolder folder;
  const std::string bytes = read_bytes(tiny_artifact("w4a8"));
  check_refused(run_abq({"inspect", folder.file("absent.abq")}), {"absent.abq"});
  check_refused(run_abq({"inspect", folder.write("empty.abq", "")}), {"empty.abq"});
  check_refused(run_abq({"inspect", folder.write("text.abq", std::string(5000, 'x'))}),
                {"text.abq"});
  for (const size_t size : {size_t{10}, size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
    CAPTURE(size);
    check_refused(run_abq({"inspect", folder.write("cut.abq", bytes.substr(0, size))}),
                  {"cut.abq"});
  }
  for (const size_t at : {size_t{3}, size_t{20}, bytes.size() / 3, bytes.size() - 5}) {
    CAPTURE(at);
    std::string flipped = bytes;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
    check_refused(run_abq({"inspect", folder.write("flipped.abq", flipped)}), {"flipped.abq"});
  }
  check_refused(run_abq({"inspect", folder.file("")}), {});
}

}  // namespace abq::test
