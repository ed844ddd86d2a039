#include <doctest/doctest.h>

#include "test_model.h"

namespace abq::passes::testing {
namespace {

const std::vector<std::string> kMeasured = {"assign-schemes", "balance-bits",    "calibrate",
                                            "quantize",       "measure-outputs", "pack-weights"};

PassContext measure(const std::string& scheme) {
  ir::Module module = make_test_model();
  PassContext context = context_for(scheme);
  context.calibration_windows = make_windows(10, 12);
  REQUIRE(run_passes(kMeasured, module, context).ok());
  return context;
}

}  // namespace

TEST_CASE("every quantized layer gets an output quality, better with more bits") {
  PassContext fine = measure("w8a8");
  PassContext coarse = measure("w4a4");
  for (const quant::LayerReport& row : fine.report.layers) {
    CAPTURE(row.name);
    const quant::LayerReport* other = coarse.find_layer_report(row.name);
    REQUIRE(row.output.has_value());
    REQUIRE(other->output.has_value());
    CHECK(row.output->sqnr_db > 30);
    CHECK(other->output->sqnr_db > 5);
    CHECK(other->output->sqnr_db < row.output->sqnr_db - 15);
    CHECK(row.output->cosine > 0.999);
    CHECK(row.outlier_ratio > 1);
  }
  CHECK(!fine.float_block.has_value());
}

TEST_CASE("weight-only layers are measured on float inputs") {
  PassContext context = measure("w8a16");
  for (const quant::LayerReport& row : context.report.layers) {
    REQUIRE(row.output.has_value());
    // Errors of the weights alone: the output follows them closely.
    CHECK(row.output->sqnr_db == doctest::Approx(row.weight.sqnr_db).epsilon(0.1));
  }
}

TEST_CASE("layers that stay float have an outlier ratio but no output quality") {
  PassContext context = measure("w16a16");
  for (const quant::LayerReport& row : context.report.layers) {
    CHECK(!row.output.has_value());
    CHECK(row.outlier_ratio > 1);
  }
}

TEST_CASE("without calibration nothing is measured") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w8a8");
  REQUIRE(
      run_passes({"assign-schemes", "balance-bits", "quantize", "measure-outputs"}, module, context)
          .ok());
  CHECK(!context.report.layers[0].output.has_value());
}

}  // namespace abq::passes::testing
