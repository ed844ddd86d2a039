// abq bench --attention: attention of prompts on a GPU, this project's kernel beside cuDNN's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "support/status.h"

namespace abq::tools {

struct AttentionBenchOptions {
  // Widths of queries and of the cache are taken from them.
  std::vector<std::string> schemes = {"w4a8", "w4a8-kv8", "w4a4-kv4-q4"};
  std::vector<int64_t> tokens;  // chunks at the start of a prompt; empty: a list with pasts
};

// Prints microseconds and TFLOPS of both, how far their results are apart, and which one the engine
// takes. Device when results differ by more than float16 explains.
Status bench_attention(const AttentionBenchOptions& options);

}  // namespace abq::tools
