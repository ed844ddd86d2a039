#include "compute/cuda/causal_blocks.h"

#include <doctest/doctest.h>

#include <vector>

namespace abq::compute::cuda {
namespace {

struct Case {
  int64_t context;
  int64_t window;
};

std::vector<Case> cases() {
  return {{1, 0},   {37, 0},     {511, 0},    {511, 20},   {512, 0},     {700, 0},
          {700, 1}, {1000, 300}, {1024, 256}, {1024, 257}, {1300, 2000}, {1025, 512}};
}

// Which (query, key) pairs the ranges of `keys` reach.
std::vector<char> reached_by_rows(const CausalBlocks& blocks) {
  std::vector<char> reached(static_cast<size_t>(blocks.context * blocks.context), 0);
  for (int64_t block = 0; block < blocks.count(); ++block) {
    const auto rows = blocks.rows(block), keys = blocks.keys(block);
    for (int64_t q = rows.first; q < rows.last; ++q)
      for (int64_t k = keys.first; k < keys.last; ++k)
        ++reached[static_cast<size_t>(q * blocks.context + k)];
  }
  return reached;
}

std::vector<char> reached_by_columns(const CausalBlocks& blocks) {
  std::vector<char> reached(static_cast<size_t>(blocks.context * blocks.context), 0);
  for (int64_t block = 0; block < blocks.count(); ++block) {
    const auto keys = blocks.rows(block), queries = blocks.queries(block);
    for (int64_t q = queries.first; q < queries.last; ++q)
      for (int64_t k = keys.first; k < keys.last; ++k)
        ++reached[static_cast<size_t>(q * blocks.context + k)];
  }
  return reached;
}

TEST_CASE("causal blocks: every seen key is in one product, by rows and by columns") {
  for (const Case& c : cases()) {
    CAPTURE(c.context);
    CAPTURE(c.window);
    const CausalBlocks blocks(c.context, c.window);
    const std::vector<char> rows = reached_by_rows(blocks);
    // What the products by columns read is what those by rows write, no more.
    CHECK(reached_by_columns(blocks) == rows);
    int64_t missed = 0;
    for (int64_t q = 0; q < c.context; ++q) {
      const int64_t first = c.window == 0 ? 0 : std::max<int64_t>(0, q - c.window + 1);
      for (int64_t k = first; k <= q; ++k)
        missed += rows[static_cast<size_t>(q * c.context + k)] == 1 ? 0 : 1;
    }
    CHECK(missed == 0);
  }
}

TEST_CASE("causal blocks: long contexts skip what no query sees") {
  const CausalBlocks whole(511, 0);
  CHECK(whole.count() == 1);
  const CausalBlocks causal(2048, 0);
  int64_t reached = 0;
  for (int64_t block = 0; block < causal.count(); ++block)
    reached += causal.rows(block).count() * causal.keys(block).count();
  CHECK(reached == 2048 * 2048 / 16 * 9);
  const CausalBlocks windowed(2048, 256);
  CHECK(windowed.keys(7).first == 6 * 256);
  CHECK(windowed.queries(0).last == 2 * 256);
}

}  // namespace
}  // namespace abq::compute::cuda
