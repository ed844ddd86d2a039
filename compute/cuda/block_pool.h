// Memory blocks that are kept when their tensor dies and handed to the next one of their size.
//
// All work on a device is ordered in one stream, so a block may be handed out at once: whoever
// still reads it was called earlier. The pool knows nothing of CUDA; its source does.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

namespace abq::compute::cuda {

class BlockPool : public std::enable_shared_from_this<BlockPool> {
 public:
  struct Source {
    std::function<void*(int64_t bytes)> allocate;  // nullptr when there is no memory
    std::function<void(void* block)> release;
  };

  // Sizes come in classes, so that nearly equal tensors share blocks: 512 bytes at least, and eight
  // classes between a power of two and the next (at most an eighth is wasted).
  static int64_t class_bytes(int64_t bytes);

  explicit BlockPool(Source source) : source_(std::move(source)) {}
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;
  ~BlockPool() { release_unused(); }

  // A block of at least `bytes`, which returns to the pool with its last owner and keeps the pool
  // alive; needs a pool owned by a shared_ptr. Where the source has no memory, all unused blocks go
  // back to it before a second attempt; then nullptr.
  std::shared_ptr<void> allocate(int64_t bytes);
  void release_unused();

  int64_t used_bytes() const { return used_bytes_; }
  int64_t peak_bytes() const { return peak_bytes_; }  // the most that were used at one time
  int64_t unused_bytes() const { return unused_bytes_; }

 private:
  void* take(int64_t bytes);
  void give_back(void* block, int64_t bytes);

  Source source_;
  std::map<int64_t, std::vector<void*>> unused_;  // by class
  int64_t used_bytes_ = 0;
  int64_t peak_bytes_ = 0;
  int64_t unused_bytes_ = 0;
};

}  // namespace abq::compute::cuda
