// Rounding with error compensation on the host's devices.
#include "compute/cpu/cpu_tensor_device.h"
#include "compute_test_support.h"
#include "rounding_checks.h"

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

TEST_CASE("rounding on the reference device: two weights as worked out by hand") {
  check_rounding_by_hand(*create_reference_tensor_device());
}

TEST_CASE("rounding on the reference device: bad inputs are rounded to nearest or refused") {
  check_rounding_of_bad_inputs(*create_reference_tensor_device());
}

TEST_CASE("rounding on the CPU: two weights as worked out by hand") {
  on_every_level(check_rounding_by_hand);
}

TEST_CASE("rounding on the CPU: codes are those of the paper's updates in float64") {
  on_every_level(check_rounding_matches_reference);
}

TEST_CASE("rounding on the CPU: products in float64 would change nothing") {
  on_every_level(check_rounding_precision);
}

TEST_CASE("rounding on the CPU: bad inputs are rounded to nearest or refused") {
  on_every_level(check_rounding_of_bad_inputs);
}

}  // namespace
}  // namespace abq::compute
