// Where the tensors of host devices lie: a pool of freed blocks, so that a loop which makes the
// same tensors again and again asks the system for nothing after its first turn.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "compute/tensor.h"
#include "support/status.h"

namespace abq::compute {

// What the memory limits of control groups (cgroup v2, of which containers are made) leave: the
// smallest of memory.max - memory.current over the folders from `root` to `root`/`group`, file
// pages that the kernel gives up under pressure not counted as used. The largest int64_t without
// limits.
int64_t cgroup_free_bytes(const std::filesystem::path& root, const std::filesystem::path& group);

// Tensors keep the pool alive; they may outlive this object.
class HostMemory {
 public:
  HostMemory();

  // Contents undefined. After the first failure every tensor has its shape but no usable memory,
  // and nothing may be read from it or written to it.
  Tensor allocate(int64_t rows, int64_t cols, int64_t element_bytes);
  bool failed() const { return !status_.ok(); }
  const Status& status() const { return status_; }
  // What the system and the control groups of this process can still give, and what the pool holds.
  int64_t free_bytes() const;
  int64_t peak_bytes() const;

 private:
  class Pool;
  std::shared_ptr<Pool> pool_;
  Status status_;
};

}  // namespace abq::compute
