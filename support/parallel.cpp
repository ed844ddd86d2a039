#include "support/parallel.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

namespace abq {
namespace {

std::atomic<int> requested_threads{0};

// libgomp's threads spin for milliseconds at a barrier before they sleep. Where another process
// wants the core, every loop then waits for the scheduler: small models ran five times slower
// beside a compiler. Some ten microseconds of spinning keep decoding fast and leave a busy machine
// alone. The library reads its environment in a constructor of the default priority, so this one
// comes before.
__attribute__((constructor(101))) void limit_spinning() {
  if (std::getenv("OMP_WAIT_POLICY") == nullptr) ::setenv("GOMP_SPINCOUNT", "1000", 0);
}

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
