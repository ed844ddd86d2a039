// A matrix in the memory of a tensor device.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "support/status.h"

namespace abq::compute {

// A handle to a matrix [rows, cols], row-major without gaps. Copies and views share the memory,
// which goes back to its device with the last of them; only TensorDevice makes and reads it.
class Tensor {
 public:
  Tensor() = default;
  Tensor(std::shared_ptr<void> memory, int64_t element_bytes, int64_t rows, int64_t cols)
      : memory_(std::move(memory)),
        data_(memory_.get()),
        element_bytes_(element_bytes),
        rows_(rows),
        cols_(cols) {}

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t size() const { return rows_ * cols_; }
  int64_t bytes() const { return size() * element_bytes_; }
  // True for a handle without memory ("no such operand").
  bool empty() const { return data_ == nullptr; }
  // The device's address of element 0; host code may follow it on host devices alone.
  void* data() const { return data_; }
  template <class T>
  T* as() const {
    ABQ_CHECK(static_cast<int64_t>(sizeof(T)) == element_bytes_);
    return static_cast<T*>(data_);
  }

  // The same elements as a matrix of another shape.
  Tensor reshaped(int64_t rows, int64_t cols) const {
    ABQ_CHECK(rows * cols == size());
    return view(0, rows, cols);
  }
  // Rows first .. first + count - 1.
  Tensor row_range(int64_t first, int64_t count) const {
    ABQ_CHECK(first >= 0 && count >= 0 && first + count <= rows_);
    return view(first * cols_, count, cols_);
  }
  // `rows * cols` elements from element `first` of a matrix read as one long row.
  Tensor view(int64_t first, int64_t rows, int64_t cols) const {
    ABQ_CHECK(first >= 0 && first + rows * cols <= size());
    Tensor part = *this;
    part.data_ = static_cast<char*>(data_) + first * element_bytes_;
    part.rows_ = rows;
    part.cols_ = cols;
    return part;
  }

 private:
  std::shared_ptr<void> memory_;
  void* data_ = nullptr;
  int64_t element_bytes_ = 4;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
};

}  // namespace abq::compute
