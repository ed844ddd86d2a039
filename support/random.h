// A seeded random stream that gives the same numbers on every machine and standard library.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace abq {

// SplitMix64 (Steele, Lea, Flood 2014): one addition and a mixer per draw, any seed is good.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // Uniform in [0, 1), 53 bits.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  // Uniform in [0, bound); bound > 0. The bias of the multiply-shift is below 2^-32 for small
  // bounds.
  uint64_t below(uint64_t bound) {
    return static_cast<uint64_t>((static_cast<Wide>(next()) * bound) >> 64);
  }
  // Standard normal, by Box-Muller.
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }

 private:
  __extension__ typedef unsigned __int128 Wide;

  uint64_t state_;
};

}  // namespace abq
