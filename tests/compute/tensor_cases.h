// Every function of compute::TensorDevice on ragged shapes: one list of cases that the tests of all
// devices run, with the tolerance that float32 leaves against the float64 reference.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "compute/tensor_device.h"

namespace abq::compute {

// A matrix in host memory; without rows, the operand that is not there.
struct HostMatrix {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> values;
};

HostMatrix random_matrix(int64_t rows, int64_t cols, uint64_t seed, double scale = 1.0);

struct TensorCase {
  std::string name;
  std::vector<HostMatrix> inputs;
  // Allowed error of each result in float32 steps (2^-23) of the result's largest magnitude: the
  // roundings on the way to an element, counted as if all pushed the same way.
  double steps = 0;
  std::function<std::vector<Tensor>(TensorDevice&, std::span<const Tensor>)> run;
};

std::vector<TensorCase> product_cases();
std::vector<TensorCase> elementwise_cases();
std::vector<TensorCase> row_cases();
std::vector<TensorCase> attention_cases();
std::vector<TensorCase> loss_cases();
std::vector<TensorCase> token_quantizer_cases();
std::vector<TensorCase> weight_quantizer_cases();
std::vector<TensorCase> affine_cases();
std::vector<TensorCase> optimizer_cases();
std::vector<TensorCase> all_tensor_cases();

}  // namespace abq::compute
