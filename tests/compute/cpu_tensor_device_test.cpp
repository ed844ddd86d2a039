#include "compute/cpu/cpu_tensor_device.h"

#include "compute_test_support.h"
#include "tensor_device_checks.h"

namespace abq::compute {
namespace {

// check(device) on a device of every level that this machine has.
template <class Check>
void on_every_level(const Check& check) {
  for (CpuIsa isa : {CpuIsa::kBaseline, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (isa > cpu_isa() || kernels_for(isa) == nullptr) continue;
    CpuTensorDevice device(isa);
    const std::string name(device.name());
    CAPTURE(name);
    check(device);
  }
}

void match_reference(const std::vector<TensorCase>& cases) {
  on_every_level([&](TensorDevice& device) { check_matches_reference(device, cases); });
}

TEST_CASE("tensors on the CPU: products agree with float64") {
  match_reference(product_cases());
}

TEST_CASE("tensors on the CPU: elementwise functions agree with float64") {
  match_reference(elementwise_cases());
}

TEST_CASE("tensors on the CPU: row functions agree with float64") {
  match_reference(row_cases());
}

TEST_CASE("tensors on the CPU: attention agrees with float64") {
  match_reference(attention_cases());
}

TEST_CASE("tensors on the CPU: losses agree with float64") {
  match_reference(loss_cases());
}

TEST_CASE("tensors on the CPU: the divergence of logits agrees with float64") {
  match_reference(logit_cases());
}

TEST_CASE("tensors on the CPU: token quantizers agree with float64") {
  match_reference(token_quantizer_cases());
}

TEST_CASE("tensors on the CPU: weight quantizers agree with float64") {
  match_reference(weight_quantizer_cases());
}

TEST_CASE("tensors on the CPU: rounded weights agree with float64") {
  match_reference(rounded_weight_cases());
}

TEST_CASE("tensors on the CPU: rounded weights are those worked out by hand") {
  on_every_level(check_rounded_weights);
}

TEST_CASE("tensors on the CPU: the affine weight transform agrees with float64") {
  match_reference(affine_cases());
}

TEST_CASE("tensors on the CPU: AdamW agrees with float64") {
  match_reference(optimizer_cases());
}

TEST_CASE("tensors on the CPU are copied, viewed and assigned") {
  on_every_level(check_memory);
}

TEST_CASE("tensors on the CPU show NaN in losses") {
  on_every_level(check_shows_nan);
}

TEST_CASE("tensors on the CPU show NaN in statistics and clip factors and quantize NaN as code 0") {
  on_every_level(check_nan_of_ranges);
}

TEST_CASE("tensors on the CPU survive a failed allocation in shape only") {
  on_every_level(check_sticky_error);
}

TEST_CASE("tensors on the CPU have the same bits for any number of threads") {
  const ThreadsRestored restored;
  on_every_level([](TensorDevice& device) {
    for (const TensorCase& c : all_tensor_cases()) {
      CAPTURE(c.name);
      set_num_threads(1);
      const auto expected = results_on(device, c);
      for (int threads : {2, 3}) {
        set_num_threads(threads);
        CHECK(results_on(device, c) == expected);
      }
    }
  });
}

TEST_CASE("tensors on the CPU come from the pool once it has seen their shapes") {
  const auto device = create_cpu_tensor_device();
  const auto step = [&] {
    const Tensor x = device->filled(300, 400, 1.0f);
    const Tensor y = device->linear(x, x);
    return y.data();
  };
  const void* const first = step();
  const int64_t peak = device->peak_bytes();
  CHECK(peak >= 4 * (300 * 400 + 300 * 300));
  for (int i = 0; i < 3; ++i)
    CHECK(step() == first);
  CHECK(device->peak_bytes() == peak);
}

TEST_CASE("a tensor on the CPU outlives its device") {
  Tensor x;
  {
    CpuTensorDevice device(cpu_isa());
    x = device.filled(3, 5, 2.0f);
  }
  CHECK(x.as<float>()[14] == 2.0f);
}

}  // namespace
}  // namespace abq::compute
