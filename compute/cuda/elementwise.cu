// Elementwise functions.
#include "compute/cuda/element_math.cuh"
#include "compute/cuda/map.cuh"
#include "compute/cuda/row_kernels.h"

namespace abq::compute::cuda {

void filled(float* y, float value, int64_t n, cudaStream_t stream) {
  map(Operands<0, 1>{{}, {y}}, n, Fill{value}, stream);
}

void add(const float* a, const float* b, float* y, int64_t n, cudaStream_t stream) {
  map(Operands<2, 1>{{a, b}, {y}}, n, Add{}, stream);
}

void multiply(const float* a, const float* b, float* y, int64_t n, cudaStream_t stream) {
  map(Operands<2, 1>{{a, b}, {y}}, n, Multiply{}, stream);
}

void accumulate(float* sum, const float* x, float factor, int64_t n, cudaStream_t stream) {
  map(Operands<2, 1>{{sum, x}, {sum}}, n, Accumulate{factor}, stream);
}

void silu_mul(const float* gate, const float* up, float* y, int64_t n, cudaStream_t stream) {
  map(Operands<2, 1>{{gate, up}, {y}}, n, SiluMul{}, stream);
}

void silu_mul_backward(const float* gate, const float* up, const float* dy, float* dgate,
                       float* dup, int64_t n, cudaStream_t stream) {
  map(Operands<3, 2>{{gate, up, dy}, {dgate, dup}}, n, SiluMulBackward{}, stream);
}

void sigmoid(const float* x, float* y, int64_t n, cudaStream_t stream) {
  map(Operands<1, 1>{{x}, {y}}, n, Sigmoid{}, stream);
}

void sigmoid_backward(const float* y, const float* dy, float* dx, int64_t n, cudaStream_t stream) {
  map(Operands<2, 1>{{y, dy}, {dx}}, n, SigmoidBackward{}, stream);
}

void reciprocal(const float* x, float* y, int64_t n, cudaStream_t stream) {
  map(Operands<1, 1>{{x}, {y}}, n, Reciprocal{}, stream);
}

void reciprocal_backward(const float* y, const float* dy, float* dx, int64_t n,
                         cudaStream_t stream) {
  map(Operands<2, 1>{{y, dy}, {dx}}, n, ReciprocalBackward{}, stream);
}

void away_from_zero(const float* x, float minimum, float* y, int64_t n, cudaStream_t stream) {
  map(Operands<1, 1>{{x}, {y}}, n, AwayFromZero{minimum}, stream);
}

void negative_log_abs(const float* x, float* y, int64_t n, cudaStream_t stream) {
  map(Operands<1, 1>{{x}, {y}}, n, NegativeLogAbs{}, stream);
}

void negative_log_abs_backward(const float* x, const float* dy, float* dx, int64_t n,
                               cudaStream_t stream) {
  map(Operands<2, 1>{{x, dy}, {dx}}, n, NegativeLogAbsBackward{}, stream);
}

}  // namespace abq::compute::cuda
