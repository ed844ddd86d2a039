// Every function of compute::TensorDevice on ragged shapes: one list of cases that the tests of all
// devices run, with the tolerance that float32 leaves against the float64 reference.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <utility>
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

double steps_of_sum(int64_t terms);

// [3, columns]: as wide as the rows of models, one for each way in which a device lays a long row
// on its threads, and one that is longer than all of them (CUDA: more than 16384 columns).
std::vector<std::pair<int64_t, int64_t>> long_row_shapes();

struct TensorCase {
  std::string name;
  std::vector<HostMatrix> inputs;
  // Allowed error of each result in float32 steps (2^-23) of the result's largest magnitude. The
  // roundings of n terms are taken for a random walk, 2 sqrt(n): tight enough to see a product in
  // reduced precision (TF32 has 2^13 such steps), wide enough for any order of summation.
  double steps = 0;
  std::function<std::vector<Tensor>(TensorDevice&, std::span<const Tensor>)> run;
};

// The same case on inputs that begin one element into their memory, so that no vector access is
// aligned.
TensorCase on_unaligned_views(const TensorCase& aligned);
// Adds the cases from `first` on once more, on unaligned views.
void add_unaligned(std::vector<TensorCase>& cases, size_t first);

std::vector<TensorCase> product_cases();
std::vector<TensorCase> elementwise_cases();
std::vector<TensorCase> row_cases();
std::vector<TensorCase> attention_cases();
std::vector<TensorCase> loss_cases();
std::vector<TensorCase> logit_cases();
std::vector<TensorCase> token_quantizer_cases();
std::vector<TensorCase> weight_quantizer_cases();
std::vector<TensorCase> rounded_weight_cases();
std::vector<TensorCase> affine_cases();
std::vector<TensorCase> optimizer_cases();
std::vector<TensorCase> all_tensor_cases();

}  // namespace abq::compute
