// What a draw from the distribution that logits describe needs, apart from the logits. The header
// stands alone: kernels include it as well as the host.
#pragma once

#include <cstdint>

namespace abq::runtime {

// The probabilities are the softmax of logits / temperature, cut to the top_k highest and then to
// the smallest set of the highest that has at least top_p of what is left.
struct TokenDraw {
  double uniform = 0;        // in [0, 1): the place in the distribution, highest logits first
  float temperature = 0.0f;  // 0 = the highest logit, the lowest id of equals
  float top_p = 1.0f;
  int32_t top_k = 0;  // 0 = all
  int32_t reserved = 0;
};

}  // namespace abq::runtime
