// Memory for kernels: cache-line aligned, not initialised, kept when it shrinks. Large buffers are
// aligned to huge pages and ask for them, since a decode step walks all of them once.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>

namespace abq::runtime {

template <class T>
class AlignedBuffer {
  static_assert(std::is_trivial_v<T>);

 public:
  // Makes room for `count` elements; the old contents are lost when the buffer grows.
  void resize(int64_t count) {
    if (count > capacity_) {
      constexpr size_t kHugePage = size_t{2} << 20;
      const size_t bytes = static_cast<size_t>(count) * sizeof(T);
      const size_t alignment = bytes >= 4 * kHugePage ? kHugePage : 64;
      const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
      data_.reset(static_cast<T*>(std::aligned_alloc(alignment, rounded)));
      if (data_ == nullptr) throw std::bad_alloc();
      // Advice only: without huge pages the kernels are merely slower.
      if (alignment == kHugePage) (void)::madvise(data_.get(), rounded, MADV_HUGEPAGE);
      capacity_ = count;
    }
    size_ = count;
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  int64_t size() const { return size_; }
  int64_t bytes() const { return size_ * static_cast<int64_t>(sizeof(T)); }
  T& operator[](int64_t i) { return data_.get()[i]; }
  const T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T[], Free> data_;
  int64_t size_ = 0;
  int64_t capacity_ = 0;
};

}  // namespace abq::runtime
