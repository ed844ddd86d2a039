#include "passes/opt.h"

#include <doctest/doctest.h>

#include "test_model.h"

namespace abq::passes::testing {

TEST_CASE("text that does not parse is refused with its name and place") {
  PassContext context;
  std::string out;
  const Status status = run_passes_on_text("module", "broken.air", {}, context, &out);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message().starts_with("broken.air:1:"));
  CHECK(out.empty());
}

TEST_CASE("an unknown pass is refused before anything runs") {
  PassContext context;
  std::string out;
  const Status status = run_passes_on_text("module @m\n", "m.air", {"fold"}, context, &out);
  CHECK(status.code() == StatusCode::kNotFound);
}

TEST_CASE("synthetic windows are token ids of the embedding table, the same for the same seed") {
  const ir::Module module = make_test_model();
  PassContext a;
  PassContext b;
  PassContext c;
  REQUIRE(use_synthetic_calibration(module, {3, 20}, 5, a).ok());
  REQUIRE(use_synthetic_calibration(module, {3, 20}, 5, b).ok());
  REQUIRE(use_synthetic_calibration(module, {3, 20}, 6, c).ok());
  REQUIRE(a.calibration_windows.size() == 3);
  CHECK(a.calibration_windows[0].size() == 20);
  for (const std::vector<int32_t>& window : a.calibration_windows)
    for (int32_t token : window)
      CHECK((token >= 0 && token < kVocab));
  CHECK(a.calibration_windows == b.calibration_windows);
  CHECK(a.calibration_windows != c.calibration_windows);
}

TEST_CASE("a module of one block gets a synthetic stream as wide as its argument") {
  ir::Module module = make_test_model();
  module.regions = {region_named(module, "layers.1")};
  PassContext context = context_for("w4a8");
  REQUIRE(use_synthetic_calibration(module, {2, 8}, 5, context).ok());
  CHECK(context.float_stream.windows() == 2);
  CHECK(context.float_stream.context() == 8);
  CHECK(context.float_stream.hidden() == kHidden);
  CHECK(run_passes({"assign-schemes", "balance-bits", "calibrate", "smooth", "quantize",
                    "measure-outputs", "pack-weights"},
                   module, context)
            .ok());
}

TEST_CASE("a module without embedding and block cannot be calibrated") {
  PassContext context;
  ir::Module module;
  module.name = "empty";
  CHECK(use_synthetic_calibration(module, {2, 8}, 5, context).message() ==
        "module empty: has neither an embedding nor a block to calibrate");
}

}  // namespace abq::passes::testing
