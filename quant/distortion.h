// Quality of an approximation, measured one way everywhere: passes report it, tests bound it.
#pragma once

#include <cstdint>
#include <span>

namespace abq::quant {

// Accumulates over any number of (reference, approximation) pairs, in float64.
class Distortion {
 public:
  void add(std::span<const float> reference, std::span<const float> approximation);

  int64_t count() const { return count_; }
  // 10 log10(sum r^2 / sum (a - r)^2) in dB; +inf for a perfect copy, 0 when the reference is zero
  // and the approximation is not.
  double sqnr_db() const;
  // Cosine similarity; 1 when both are zero.
  double cosine() const;
  double max_error() const { return max_error_; }
  double mean_squared_error() const;
  // Elements whose sign flipped, and nonzero elements that became zero.
  int64_t sign_flips() const { return sign_flips_; }
  int64_t rounded_to_zero() const { return rounded_to_zero_; }

 private:
  int64_t count_ = 0;
  double reference_energy_ = 0;
  double approximation_energy_ = 0;
  double error_energy_ = 0;
  double dot_ = 0;
  double max_error_ = 0;
  int64_t sign_flips_ = 0;
  int64_t rounded_to_zero_ = 0;
};

}  // namespace abq::quant
