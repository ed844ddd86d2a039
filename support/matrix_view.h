// Non-owning views of row-major matrices: the currency between quant, compute and the kernels.
#pragma once

#include <cstdint>
#include <span>

namespace abq {

// rows x cols elements, row r at data + r * stride; stride >= cols, in elements.
template <class T>
struct MatrixView {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  MatrixView() = default;
  MatrixView(T* d, int64_t r, int64_t c) : data(d), rows(r), cols(c), stride(c) {}
  MatrixView(T* d, int64_t r, int64_t c, int64_t s) : data(d), rows(r), cols(c), stride(s) {}
  // A view of mutable elements is also a view of constant ones.
  operator MatrixView<const T>() const { return {data, rows, cols, stride}; }

  T* row(int64_t r) const { return data + r * stride; }
  std::span<T> row_span(int64_t r) const { return {row(r), static_cast<size_t>(cols)}; }
};

}  // namespace abq
