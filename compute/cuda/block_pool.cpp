#include "compute/cuda/block_pool.h"

#include <algorithm>
#include <bit>

#include "support/status.h"

namespace abq::compute::cuda {

int64_t BlockPool::class_bytes(int64_t bytes) {
  constexpr int64_t kSmallest = 512;
  if (bytes <= kSmallest) return kSmallest;
  const auto octave = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(bytes)));
  const int64_t step = std::max(octave / 8, kSmallest);
  return (bytes + step - 1) / step * step;
}

std::shared_ptr<void> BlockPool::allocate(int64_t bytes) {
  ABQ_CHECK(bytes >= 0);
  const int64_t size = class_bytes(bytes);
  void* block = take(size);
  if (block == nullptr) return nullptr;
  used_bytes_ += size;
  peak_bytes_ = std::max(peak_bytes_, used_bytes_);
  return {block, [pool = shared_from_this(), size](void* b) { pool->give_back(b, size); }};
}

void* BlockPool::take(int64_t bytes) {
  if (const auto found = unused_.find(bytes); found != unused_.end() && !found->second.empty()) {
    void* block = found->second.back();
    found->second.pop_back();
    unused_bytes_ -= bytes;
    return block;
  }
  if (void* block = source_.allocate(bytes)) return block;
  if (unused_bytes_ == 0) return nullptr;
  release_unused();
  return source_.allocate(bytes);
}

void BlockPool::give_back(void* block, int64_t bytes) {
  used_bytes_ -= bytes;
  unused_bytes_ += bytes;
  unused_[bytes].push_back(block);
}

void BlockPool::release_unused() {
  for (const auto& [bytes, blocks] : unused_) {
    for (void* block : blocks)
      source_.release(block);
  }
  unused_.clear();
  unused_bytes_ = 0;
}

}  // namespace abq::compute::cuda
