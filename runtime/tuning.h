// Which kernel of the quantized linears was fastest on a device, as `abq bench --tune` measured it
// and an artifact can carry it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace abq::runtime {

// For linears of this kind with up to `max_m` tokens (0 = any number). The choices of one kind
// stand in the order of max_m.
struct TunedChoice {
  int planes = 0;      // bits of a code
  bool base5 = false;  // codes of balanced 2-bit weights, stored in base 5
  int group_size = 0;  // 0 = per channel
  int activation_bits = 16;
  int64_t n = 0;  // outputs of the matrix that runs: linears that share an input are stacked
  int64_t k = 0;
  int64_t max_m = 0;
  std::string kernel;  // "cuda.bits"
  double us = 0;       // of one launch at max_m (or the largest measured), when it was chosen
};

struct Tuning {
  std::string device;  // product name, "NVIDIA H200"
  std::vector<TunedChoice> choices;
};

}  // namespace abq::runtime
