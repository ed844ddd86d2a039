#include "quant/distortion.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/status.h"

namespace abq::quant {

void Distortion::add(std::span<const float> reference, std::span<const float> approximation) {
  ABQ_CHECK(reference.size() == approximation.size());
  for (size_t i = 0; i < reference.size(); ++i) {
    const double r = static_cast<double>(reference[i]);
    const double a = static_cast<double>(approximation[i]);
    const double error = a - r;
    reference_energy_ += r * r;
    approximation_energy_ += a * a;
    error_energy_ += error * error;
    dot_ += r * a;
    max_error_ = std::max(max_error_, std::fabs(error));
    sign_flips_ += r * a < 0.0;
    rounded_to_zero_ += r != 0.0 && a == 0.0;
  }
  count_ += static_cast<int64_t>(reference.size());
}

double Distortion::sqnr_db() const {
  if (error_energy_ == 0.0) return std::numeric_limits<double>::infinity();
  if (reference_energy_ == 0.0) return 0.0;
  return 10.0 * std::log10(reference_energy_ / error_energy_);
}

double Distortion::cosine() const {
  if (reference_energy_ == 0.0 && approximation_energy_ == 0.0) return 1.0;
  if (reference_energy_ == 0.0 || approximation_energy_ == 0.0) return 0.0;
  return dot_ / (std::sqrt(reference_energy_) * std::sqrt(approximation_energy_));
}

double Distortion::mean_squared_error() const {
  return count_ == 0 ? 0.0 : error_energy_ / static_cast<double>(count_);
}

}  // namespace abq::quant
