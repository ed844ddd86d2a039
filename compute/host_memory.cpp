#include "compute/host_memory.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <map>
#include <string>
#include <vector>

namespace abq::compute {
namespace {

constexpr int64_t kAlignment = 64;
// Below this the system is not asked whether it has the memory.
constexpr int64_t kLargeBlock = int64_t{1} << 20;

// Eight classes between a power of two and the next: at most an eighth of a block is wasted.
int64_t size_class(int64_t bytes) {
  const uint64_t size = static_cast<uint64_t>(std::max(bytes, 8 * kAlignment));
  const uint64_t step = std::bit_floor(size) / 8;
  return static_cast<int64_t>((size + step - 1) / step * step);
}

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

// The number that a file begins with; `otherwise` when there is none ("max", no file).
int64_t number_in(const std::filesystem::path& file, int64_t otherwise) {
  std::ifstream stream(file);
  int64_t number = 0;
  return stream >> number ? number : otherwise;
}

// File pages of a group: charged to it, but given up for new blocks.
int64_t file_page_bytes(const std::filesystem::path& folder) {
  std::ifstream stat(folder / "memory.stat");
  int64_t bytes = 0, value = 0;
  for (std::string key; stat >> key >> value;)
    if (key == "inactive_file" || key == "active_file") bytes += value;
  return bytes;
}

int64_t free_in_group(const std::filesystem::path& folder) {
  const int64_t limit = number_in(folder / "memory.max", kUnlimited);
  if (limit == kUnlimited) return kUnlimited;
  const int64_t current = number_in(folder / "memory.current", 0);
  const int64_t used = std::max<int64_t>(current - file_page_bytes(folder), 0);
  return std::max<int64_t>(limit - used, 0);
}

// This process's group, as the line "0::/path" of the kernel says; empty without one.
std::filesystem::path own_group() {
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);)
    if (line.starts_with("0::")) return line.substr(3);
  return {};
}

// Memory that the machine has for new blocks without swapping.
int64_t machine_free_bytes() {
  std::ifstream meminfo("/proc/meminfo");
  for (std::string key; meminfo >> key;) {
    int64_t kib = 0;
    if (key == "MemAvailable:" && meminfo >> kib) return kib * 1024;
    meminfo.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return static_cast<int64_t>(sysconf(_SC_AVPHYS_PAGES)) * sysconf(_SC_PAGESIZE);
}

int64_t system_free_bytes() {
  // Asked once: a process seldom moves.
  static const std::filesystem::path group = own_group();
  return std::min(machine_free_bytes(), cgroup_free_bytes("/sys/fs/cgroup", group));
}

}  // namespace

int64_t cgroup_free_bytes(const std::filesystem::path& root, const std::filesystem::path& group) {
  std::filesystem::path folder = root;
  int64_t free = free_in_group(folder);
  for (const std::filesystem::path& part : group.relative_path()) {
    if (part == "..") break;  // a group outside of what this process may see
    folder /= part;
    free = std::min(free, free_in_group(folder));
  }
  return free;
}

class HostMemory::Pool : public std::enable_shared_from_this<Pool> {
 public:
  Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() { release(); }

  // Null when the system has no such block.
  std::shared_ptr<void> take(int64_t bytes) {
    bytes = size_class(bytes);
    void* block = nullptr;
    if (std::vector<void*>& blocks = free_[bytes]; !blocks.empty()) {
      block = blocks.back();
      blocks.pop_back();
      pooled_ -= bytes;
    } else {
      block = from_system(bytes);
    }
    if (block == nullptr) return nullptr;
    used_ += bytes;
    peak_ = std::max(peak_, used_);
    return {block, [pool = shared_from_this(), bytes](void* p) { pool->give_back(p, bytes); }};
  }
  int64_t pooled() const { return pooled_; }
  int64_t peak() const { return peak_; }

 private:
  // Systems promise more than they have and end the process later, so a large block is compared
  // with what is there; blocks of other sizes in the pool are given up first.
  void* from_system(int64_t bytes) {
    if (bytes >= kLargeBlock && bytes > system_free_bytes()) {
      release();
      if (bytes > system_free_bytes()) return nullptr;
    }
    return std::aligned_alloc(kAlignment, static_cast<size_t>(bytes));
  }
  void give_back(void* block, int64_t bytes) {
    used_ -= bytes;
    pooled_ += bytes;
    free_[bytes].push_back(block);
  }
  void release() {
    for (auto& [bytes, blocks] : free_) {
      for (void* block : blocks)
        std::free(block);
      blocks.clear();
    }
    pooled_ = 0;
  }

  std::map<int64_t, std::vector<void*>> free_;
  int64_t pooled_ = 0;
  int64_t used_ = 0;
  int64_t peak_ = 0;
};

HostMemory::HostMemory() : pool_(std::make_shared<Pool>()) {}

Tensor HostMemory::allocate(int64_t rows, int64_t cols, int64_t element_bytes) {
  ABQ_CHECK(rows >= 0 && cols >= 0);
  std::shared_ptr<void> block;
  const bool countable = cols == 0 || rows <= (int64_t{1} << 62) / cols / element_bytes;
  if (!failed() && countable) block = pool_->take(rows * cols * element_bytes);
  if (block == nullptr) {
    if (!failed()) {
      status_ = device_error(
          "host memory: no room for a matrix [{}, {}] of {} bytes an element; "
          "{} MiB are free",
          rows, cols, element_bytes, free_bytes() >> 20);
    }
    // Not null: a null handle means "no such operand".
    alignas(kAlignment) static char nowhere[kAlignment];
    block = std::shared_ptr<void>(nowhere, [](void*) {});
  }
  return {std::move(block), element_bytes, rows, cols};
}

int64_t HostMemory::free_bytes() const {
  return system_free_bytes() + pool_->pooled();
}

int64_t HostMemory::peak_bytes() const {
  return pool_->peak();
}

}  // namespace abq::compute
