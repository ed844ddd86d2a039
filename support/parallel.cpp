#include "support/parallel.h"

#include <omp.h>

#include <algorithm>
#include <atomic>

namespace abq {
namespace {

std::atomic<int> requested_threads{0};

}  // namespace

void set_num_threads(int threads) {
  requested_threads = std::max(threads, 0);
}

int num_threads() {
  if (omp_in_parallel() != 0) return 1;
  const int requested = requested_threads;
  return requested > 0 ? requested : std::max(omp_get_num_procs(), 1);
}

}  // namespace abq
