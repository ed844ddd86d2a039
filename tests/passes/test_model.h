// A small random decoder for the tests of the passes: 2 blocks, grouped-query attention.
#pragma once

#include <string>
#include <vector>

#include "ir/graph.h"
#include "ir/interpreter.h"
#include "passes/pass.h"

namespace abq::passes::testing {

inline constexpr int64_t kHidden = 64;
inline constexpr int64_t kHeads = 4;
inline constexpr int64_t kKvHeads = 2;
inline constexpr int64_t kHeadDim = 16;
inline constexpr int64_t kFfn = 96;
inline constexpr int64_t kVocab = 50;
inline constexpr int64_t kLayers = 2;

// Regions embed, layers.0, layers.1, head; weights are seeded normals, bf16 where the real thing
// is.
ir::Module make_test_model(uint64_t seed = 1);
const ir::Region& region_named(const ir::Module& module, const std::string& name);
ir::Region& region_named(ir::Module& module, const std::string& name);
const ir::Node& node_named(const ir::Region& region, const std::string& name);

// Seeded token windows below kVocab.
std::vector<std::vector<int32_t>> make_windows(int64_t windows, int64_t tokens, uint64_t seed = 7);

// Runs registered passes on all of `module`.
Status run_passes(const std::vector<std::string>& names, ir::Module& module, PassContext& context);

PassContext context_for(const std::string& scheme);

// max |a - b| / max |b|.
double relative_difference(const ir::Matrix& a, const ir::Matrix& b);

}  // namespace abq::passes::testing
