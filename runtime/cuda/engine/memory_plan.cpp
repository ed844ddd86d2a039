#include <algorithm>

#include "runtime/cuda/engine/launch_list.h"

namespace abq::runtime::cuda {

MemoryPlan plan_memory(std::span<const Storage> storages, std::span<const int64_t> sizes) {
  constexpr int64_t kAlignment = 256;
  // Largest first, each at the lowest offset where nothing alive at the same time lies.
  std::vector<size_t> order(storages.size());
  for (size_t i = 0; i < order.size(); ++i)
    order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return sizes[a] > sizes[b]; });
  MemoryPlan plan;
  plan.offsets.assign(storages.size(), 0);
  std::vector<size_t> placed;
  for (const size_t i : order) {
    std::vector<size_t> alive;
    for (const size_t other : placed) {
      if (storages[i].first <= storages[other].last && storages[other].first <= storages[i].last)
        alive.push_back(other);
    }
    std::sort(alive.begin(), alive.end(),
              [&](size_t a, size_t b) { return plan.offsets[a] < plan.offsets[b]; });
    int64_t offset = 0;
    for (const size_t other : alive) {
      if (plan.offsets[other] - offset >= sizes[i]) break;
      const int64_t end = plan.offsets[other] + sizes[other];
      offset = std::max(offset, (end + kAlignment - 1) / kAlignment * kAlignment);
    }
    plan.offsets[i] = offset;
    plan.bytes = std::max(plan.bytes, offset + sizes[i]);
    placed.push_back(i);
  }
  return plan;
}

}  // namespace abq::runtime::cuda
