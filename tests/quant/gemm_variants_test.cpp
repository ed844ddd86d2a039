#include "quant/gemm_variants.h"

#include <doctest/doctest.h>

namespace abq::quant {

TEST_CASE("family names parse back and an unknown one lists those there are") {
  for (const GemmFamily family : gemm_families())
    CHECK(parse_gemm_family(gemm_family_name(family)).value() == family);
  const Status status = parse_gemm_family("cpu.magic").status();
  CHECK(status.code() == StatusCode::kNotFound);
  CHECK(status.message().find("cpu.bits, cpu.int8, cpu.weight_only") != std::string::npos);
}

TEST_CASE("every width, group and activation width has a family that can run it") {
  for (int bits = 1; bits <= 8; ++bits) {
    for (const bool balanced : {false, true}) {
      if (balanced && bits > 2) continue;
      for (const int group_size : {0, 32, 64, 128}) {
        for (const int activation_bits : {1, 2, 3, 4, 5, 6, 7, 8, 16}) {
          const GemmProblem problem = {.spec = {bits, balanced, group_size, false},
                                       .activation_bits = activation_bits,
                                       .n = 8,
                                       .k = 128};
          const Result<GemmFamily> family = select_gemm(problem);
          REQUIRE(family.ok());
          CHECK(can_run(family.value(), problem).ok());
          CHECK((family.value() == GemmFamily::kWeightOnly) == (activation_bits == 16));
        }
      }
    }
  }
}

TEST_CASE("a family refuses what it cannot run and says which limit is broken") {
  GemmProblem problem = {.spec = {4, false, 64, false}, .activation_bits = 8, .n = 8, .k = 128};
  CHECK(can_run(GemmFamily::kBits, problem).message() ==
        "cpu.bits: weights in groups of 64; expected one scale per channel");
  CHECK(can_run(GemmFamily::kWeightOnly, problem).message() ==
        "cpu.weight_only: activations of 8 bits; expected 16..16");
  problem.k = kMaxGemmDepth + 128;
  CHECK(can_run(GemmFamily::kInt8, problem).message() ==
        "K=8388736: expected at most 8388608 with quantized activations; use a16");
  CHECK(select_gemm(problem).status().message().find("K=8388736") == 0);
  problem.activation_bits = 16;
  CHECK(select_gemm(problem).ok());
  problem.activation_bits = 8;
  problem.k = 128;
  problem.spec.bits = 16;
  CHECK(can_run(GemmFamily::kInt8, problem).code() == StatusCode::kUnsupported);
  CHECK(select_gemm(problem).status().code() == StatusCode::kUnsupported);
}

}  // namespace abq::quant
