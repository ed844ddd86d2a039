// Data-parallel loops over the process's OpenMP threads.
//
// Determinism rule of the project: work is cut into pieces whose bounds depend on the problem only,
// each output element is computed wholly inside one piece, and pieces never share an accumulator.
// So any thread count gives the same bits.
#pragma once

#include <cstdint>

namespace abq {

// Threads that parallel_for uses; 0 = one per online core. Takes effect from the next loop on.
void set_num_threads(int threads);
int num_threads();

// Calls body(i) for i in [0, count), in any order, on up to num_threads() threads. Nested calls run
// on the calling thread alone.
template <class Body>
void parallel_for(int64_t count, const Body& body) {
  const int threads = num_threads();
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1 && count > 1)
  for (int64_t i = 0; i < count; ++i)
    body(i);
}

}  // namespace abq
