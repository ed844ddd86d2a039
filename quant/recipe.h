// What a user asks of a compilation; proto/recipe.proto is its stored form (tools and backend
// convert).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "quant/scheme.h"

namespace abq::quant {

// Layers whose name matches `pattern` (shell style: * and ?) use `scheme` for weights and inputs.
struct LayerOverride {
  std::string pattern;
  Scheme scheme;
};

struct CalibrationSettings {
  int64_t windows = 128;   // windows cut evenly from the token stream, in order
  int64_t context = 1024;  // tokens per window
};

struct Recipe {
  Scheme scheme;
  std::string method = "rtn";  // rtn | smooth
  bool clip_search = false;
  double smooth_alpha = 0.5;
  CalibrationSettings calibration;
  std::vector<LayerOverride> overrides;
  uint64_t seed = 0;
};

}  // namespace abq::quant
