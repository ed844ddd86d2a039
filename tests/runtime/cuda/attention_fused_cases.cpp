#include "attention_fused_cases.h"

#include <algorithm>

namespace abq::runtime::cuda {

void check_fused_cases(FusedAttention& fused, int longest) {
  for (const int head_dim : {64, 128}) {
    for (const int group : {1, 3, 4}) {
      for (const int bits : {16, 8, 4}) {
        AttentionCase test;
        test.kv_heads = 2;
        test.heads = 2 * group;
        test.head_dim = head_dim;
        test.kv_bits = bits;
        test.query_bits = group == 1 ? 16 : bits;
        // One token, a ragged chunk, and chunks of which the second has a past.
        test.prompts = {{1}, {longest}, {longest - longest / 3, longest / 5, 1}};
        test.decoded = 1;
        test.fused = &fused;
        test.seed = static_cast<uint64_t>(1000 * head_dim + 100 * group + bits);
        check_attention(test);
      }
    }
  }
}

}  // namespace abq::runtime::cuda
