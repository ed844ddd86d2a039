// Arrays that kernels see, random rows and the counting of mismatches, for attention_cases.cpp and
// attention_rope_case.cpp.
#pragma once

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "attention_cases.h"
#include "support/random.h"

namespace abq::runtime::cuda {

inline constexpr int64_t kGap = 3;  // unused columns between rows
inline constexpr uint32_t kPoison = 0xffffffffu;

inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}

template <class T>
class KernelArray {
 public:
  explicit KernelArray(int64_t size)
      : memory_(kernel_memory(size * static_cast<int64_t>(sizeof(T)))), size_(size) {}
  explicit KernelArray(std::span<const T> values)
      : KernelArray(static_cast<int64_t>(values.size())) {
    copy_to_kernels(data(), values.data(), bytes());
  }
  T* data() const { return reinterpret_cast<T*>(memory_.get()); }
  int64_t bytes() const { return size_ * static_cast<int64_t>(sizeof(T)); }
  std::vector<T> values() const {
    std::vector<T> result(static_cast<size_t>(size_));
    copy_from_kernels(result.data(), data(), bytes());
    return result;
  }

 private:
  std::shared_ptr<std::byte> memory_;
  int64_t size_;
};

// About normal, and quick: the sum of four uniform numbers, of variance 1.
inline double bell(Random& random) {
  const uint64_t bits = random.next();
  int64_t sum = 0;
  for (int i = 0; i < 4; ++i)
    sum += static_cast<int64_t>(bits >> (16 * i) & 0xffffu);
  return (static_cast<double>(sum) / 65536.0 - 2.0) * std::sqrt(3.0);
}

inline std::vector<float> random_rows(Random& random, int64_t rows, int64_t columns) {
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (int64_t r = 0; r < rows; ++r) {
    // Tokens of unequal size, as outliers make them.
    const double size = std::exp2(2.0 * random.uniform() - 1.0);
    for (int64_t c = 0; c < columns; ++c)
      values[static_cast<size_t>(r * columns + c)] = static_cast<float>(size * bell(random));
  }
  return values;
}

// Counts mismatches and keeps the words for the first.
class Comparison {
 public:
  template <class Where>
  void count(bool equal, const Where& where) {
    ++compared_;
    if (equal) return;
    if (wrong_++ == 0) first_ = where();
  }
  void finish(const std::string& what) const {
    const std::string words =
        fmt::format("{}: {} of {} wrong, first {}", what, wrong_, compared_, first_);
    INFO(words);
    CHECK(wrong_ == 0);
    CHECK(compared_ > 0);
  }

 private:
  int64_t compared_ = 0;
  int64_t wrong_ = 0;
  std::string first_;
};

}  // namespace abq::runtime::cuda
