#include "passes/scale_sites.h"

#include <doctest/doctest.h>

#include "test_model.h"

namespace abq::passes::testing {

TEST_CASE("repeated scales follow the kv heads' groups and the rotary pairs") {
  ScaleFold fold;
  fold.repeats = {{2, 2}, {4, 2}};  // two pairs a head, two query heads a kv head
  const std::vector<float> scales = {1, 2, 3, 4};
  CHECK(repeat_scales(scales, fold) ==
        std::vector<float>{1, 2, 1, 2, 1, 2, 1, 2, 3, 4, 3, 4, 3, 4, 3, 4});
  fold.repeats.clear();
  CHECK(repeat_scales(scales, fold) == scales);
}

TEST_CASE("a block has five sites, named by their nodes") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a4");
  context.calibration_windows = make_windows(2, 12);
  REQUIRE(run_passes({"assign-schemes"}, module, context).ok());
  ir::Region& block = region_named(module, "layers.1");
  const std::unique_ptr<Pass> calibrate = create_pass("calibrate").value();
  REQUIRE(dynamic_cast<BlockPass&>(*calibrate).run(module, block, context).ok());
  const std::vector<ScaleSite> sites =
      *find_scale_sites(module, block, context.input_statistics, 0.5);
  std::vector<std::string> names;
  for (const ScaleSite& site : sites)
    names.push_back(site.name);
  CHECK(names == std::vector<std::string>{"layers.1.attn_norm -> q, k, v",
                                          "layers.1.mlp_norm -> gate, up", "layers.1.attn.v -> o",
                                          "layers.1.mlp.up -> down", "layers.1.attn.q <-> k"});
  CHECK(sites[2].start.size() == static_cast<size_t>(kKvHeads * kHeadDim));
  CHECK(sites[4].start == std::vector<float>(static_cast<size_t>(kKvHeads * kHeadDim / 2), 1.0f));
}

TEST_CASE("sites without statistics are refused with what to run") {
  const ir::Module module = make_test_model();
  const auto sites = find_scale_sites(module, region_named(module, "layers.0"), {}, 0.5);
  CHECK(sites.status().message() == "layers.0.attn.q: no input statistics; run calibrate first");
}

}  // namespace abq::passes::testing
