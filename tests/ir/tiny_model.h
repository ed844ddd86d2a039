// A small decoder with random weights, and the same decoder written out in float64.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <span>
#include <string>

#include "ir/graph.h"
#include "ir/interpreter.h"

namespace abq::ir {

struct TinyShape {
  int64_t vocab = 24;
  int64_t hidden = 16;
  int64_t heads = 4;
  int64_t kv_heads = 2;
  int64_t head_dim = 4;
  int64_t intermediate = 24;
  int64_t layers = 2;
  int64_t window = 0;
};

Tensor random_f32_tensor(std::vector<int64_t> shape, uint64_t seed, double scale);
Matrix random_matrix(int64_t rows, int64_t cols, uint64_t seed, double scale = 1.0);

// embed, `layers` blocks, head; all weights f32, named like a checkpoint's.
Module make_tiny_model(const TinyShape& shape = {});

using MatrixD = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
MatrixD to_double(const Matrix& matrix);
// A tensor with two dimensions, or one as a single row.
MatrixD tensor_to_double(const Module& module, const std::string& name);
// Largest |a - b| over the largest |b|.
double relative_difference(const Matrix& a, const MatrixD& b);

// The same decoder without graph, device or float32: what logits() must say.
MatrixD naive_logits(const Module& module, const TinyShape& shape, std::span<const int32_t> tokens);
// Its parts.
MatrixD naive_rope(MatrixD x, int64_t head_dim, const MatrixD& frequencies);
MatrixD naive_attention(const TinyShape& shape, const MatrixD& q, const MatrixD& k,
                        const MatrixD& v);

}  // namespace abq::ir
