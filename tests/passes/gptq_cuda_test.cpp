// The pass gptq on a GPU against the CPU. Codes may differ where a value lies on a tie, and with
// them a few codes behind it, so that losses are compared and not codes.
#include <doctest/doctest.h>

#include "test_model.h"

namespace abq::passes::testing {
namespace {

// The module as quantized, and the report of its layers.
struct Rounded {
  ir::Module module;
  std::vector<quant::LayerReport> layers;
};

Rounded rounded_on(std::shared_ptr<compute::TensorDevice> device, const std::string& scheme) {
  Rounded result{make_test_model(), {}};
  PassContext context = context_for(scheme);
  context.tensor_device = std::move(device);
  context.calibration_windows = make_windows(6, 40);
  REQUIRE(run_passes({"assign-schemes", "balance-bits", "calibrate", "gptq", "quantize",
                      "replay-quantized"},
                     result.module, context)
              .ok());
  result.layers = context.report.layers;
  return result;
}

}  // namespace

TEST_CASE("gptq on CUDA loses what it loses on the CPU") {
  for (const char* scheme : {"w4a8-kv8-q8", "w2ba8", "w3a16", "w4a8-g32", "w1a8"}) {
    CAPTURE(std::string(scheme));
    const Rounded cpu = rounded_on(compute::create_cpu_tensor_device(), scheme);
    auto device = compute::create_cuda_tensor_device();
    REQUIRE(device.ok());
    const Rounded cuda = rounded_on(std::move(device).value(), scheme);
    REQUIRE(cpu.layers.size() == cuda.layers.size());
    for (size_t i = 0; i < cpu.layers.size(); ++i) {
      CAPTURE(cpu.layers[i].name);
      REQUIRE(cuda.layers[i].rounding.has_value());
      CHECK(cuda.layers[i].rounding->loss ==
            doctest::Approx(cpu.layers[i].rounding->loss).epsilon(0.03));
      CHECK(cuda.layers[i].rounding->nearest_loss ==
            doctest::Approx(cpu.layers[i].rounding->nearest_loss).epsilon(0.03));
      CHECK(cuda.layers[i].rounding->damping == cpu.layers[i].rounding->damping);
    }
  }
}

TEST_CASE("gptq on CUDA gives the same bytes every time") {
  const auto bytes = [] {
    auto device = compute::create_cuda_tensor_device();
    REQUIRE(device.ok());
    const Rounded rounded = rounded_on(std::move(device).value(), "w2ba8-kv8-q8");
    std::vector<std::byte> all;
    for (const auto& [name, tensor] : rounded.module.tensors)
      all.insert(all.end(), tensor.data.bytes().begin(), tensor.data.bytes().end());
    return all;
  };
  CHECK(bytes() == bytes());
}

}  // namespace abq::passes::testing
