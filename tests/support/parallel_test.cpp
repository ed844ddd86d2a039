#include "support/parallel.h"

#include <doctest/doctest.h>

#include <atomic>
#include <vector>

using namespace abq;

TEST_CASE("every index is visited once at any thread count") {
  for (const int threads : {1, 2, 3, 8}) {
    set_num_threads(threads);
    for (const int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
      parallel_for(count, [&](int64_t i) { ++visits[static_cast<size_t>(i)]; });
      int wrong = 0;
      for (const auto& visit : visits)
        wrong += visit != 1;
      CHECK(wrong == 0);
    }
  }
  set_num_threads(0);
}

TEST_CASE("a nested loop runs on the calling thread alone") {
  set_num_threads(4);
  std::atomic<int> wide{0};
  std::atomic<int> visits{0};
  parallel_for(8, [&](int64_t) {
    wide += num_threads() != 1;
    parallel_for(10, [&](int64_t) { ++visits; });
  });
  set_num_threads(0);
  CHECK(wide == 0);
  CHECK(visits == 80);
}

TEST_CASE("the thread count is what was asked for, or one per core") {
  set_num_threads(3);
  CHECK(num_threads() == 3);
  set_num_threads(-1);
  CHECK(num_threads() >= 1);
  set_num_threads(0);
  CHECK(num_threads() >= 1);
}
