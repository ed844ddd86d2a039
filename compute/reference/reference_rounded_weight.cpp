#include <algorithm>
#include <cmath>

#include "compute/reference/reference_tensor_device.h"
#include "compute/tensor_checks.h"

namespace abq::compute {
namespace {

// What an offset stands for on a scale of 1, and whether a gradient passes to it.
struct Rounded {
  double number = 0;
  bool passes = false;
};

Rounded rounded_sign(double offset) {
  if (std::isnan(offset)) return {offset, false};
  return {offset >= 0.0 ? 1.0 : -1.0, std::abs(offset) <= 1.0};
}

Rounded rounded_code(double offset, double zero, const WeightQuantizer& quantizer) {
  const double low = -zero, high = quantizer.levels - 1 - zero;
  const double number = std::nearbyint(offset);
  if (std::isnan(number)) return {number, false};
  return {std::clamp(number, low, high), number >= low && number <= high};
}

// body(element, group, rounded offset) over all elements.
template <class Body>
void for_rounded(const Tensor& offsets, const Tensor& zeros, const WeightQuantizer& quantizer,
                 int64_t length, const Body& body) {
  for (int64_t i = 0; i < offsets.size(); ++i) {
    const int64_t group = i / length;
    body(i, group,
         quantizer.kind == WeightQuantizer::Kind::kBinary
             ? rounded_sign(at(offsets, i))
             : rounded_code(at(offsets, i), at(zeros, group), quantizer));
  }
}

}  // namespace

Tensor ReferenceTensorDevice::rounded_weight(const Tensor& offsets, const Tensor& scales,
                                             const Tensor& zeros,
                                             const WeightQuantizer& quantizer) {
  const int64_t length = check_rounded_weight(offsets, scales, zeros, quantizer);
  const Tensor y = allocate(offsets.rows(), offsets.cols());
  if (memory_.failed()) return y;
  for_rounded(offsets, zeros, quantizer, length, [&](int64_t i, int64_t group, Rounded rounded) {
    at(y, i) = at(scales, group) * rounded.number;
  });
  return y;
}

RoundedWeightGradient ReferenceTensorDevice::rounded_weight_backward(
    const Tensor& offsets, const Tensor& scales, const Tensor& zeros,
    const WeightQuantizer& quantizer, const Tensor& dy, bool offsets_wanted) {
  const int64_t length = check_rounded_weight(offsets, scales, zeros, quantizer);
  check_same_shape(offsets, dy);
  RoundedWeightGradient gradient;
  if (offsets_wanted) gradient.offsets = zeros_like(offsets);
  gradient.scales = zeros_like(scales);
  if (memory_.failed()) return gradient;
  for_rounded(offsets, zeros, quantizer, length, [&](int64_t i, int64_t group, Rounded rounded) {
    if (offsets_wanted && rounded.passes) at(gradient.offsets, i) = at(dy, i) * at(scales, group);
    at(gradient.scales, group) += at(dy, i) * rounded.number;
  });
  return gradient;
}

}  // namespace abq::compute
