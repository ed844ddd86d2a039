// The formulas of the elementwise functions, one functor each: f(in, out), as map.cuh calls them.
#pragma once

#include <cmath>

#include "compute/cuda/portable_math.cuh"

namespace abq::compute::cuda {

// 1 / (1 + e^-x): e^-x overflows to infinity for x < -88, which gives the right 0.
ABQ_HOST_DEVICE float sigmoid_of(float x) {
  return 1.0f / (1.0f + expf(-x));
}

struct Fill {
  float value;
  ABQ_HOST_DEVICE void operator()(const float*, float* y) const { y[0] = value; }
};

struct Add {
  ABQ_HOST_DEVICE void operator()(const float* x, float* y) const { y[0] = x[0] + x[1]; }
};

struct Multiply {
  ABQ_HOST_DEVICE void operator()(const float* x, float* y) const { y[0] = x[0] * x[1]; }
};

struct Accumulate {  // sum, x
  float factor;
  ABQ_HOST_DEVICE void operator()(const float* x, float* y) const { y[0] = x[0] + factor * x[1]; }
};

struct SiluMul {  // gate, up
  ABQ_HOST_DEVICE void operator()(const float* x, float* y) const {
    y[0] = x[0] * sigmoid_of(x[0]) * x[1];
  }
};

// silu(g) = g s(g); silu'(g) = s (1 + g (1 - s)).
struct SiluMulBackward {  // gate, up, dy -> dgate, dup
  ABQ_HOST_DEVICE void operator()(const float* x, float* y) const {
    const float gate = x[0];
    const float s = sigmoid_of(gate);
    y[0] = x[2] * x[1] * (s * (1.0f + gate * (1.0f - s)));
    y[1] = x[2] * (gate * s);
  }
};

struct Sigmoid {
  ABQ_HOST_DEVICE void operator()(const float* x, float* y) const { y[0] = sigmoid_of(x[0]); }
};

struct SigmoidBackward {  // y, dy
  ABQ_HOST_DEVICE void operator()(const float* x, float* y) const {
    y[0] = x[1] * (x[0] * (1.0f - x[0]));
  }
};

struct Reciprocal {
  ABQ_HOST_DEVICE void operator()(const float* x, float* y) const { y[0] = 1.0f / x[0]; }
};

struct ReciprocalBackward {  // y, dy: d(1/x) = -y^2
  ABQ_HOST_DEVICE void operator()(const float* x, float* y) const { y[0] = -x[1] * x[0] * x[0]; }
};

struct AwayFromZero {
  float minimum;
  ABQ_HOST_DEVICE void operator()(const float* x, float* y) const {
    const float v = x[0];
    y[0] = fabsf(v) < minimum ? (v < 0.0f ? -minimum : minimum) : v;
  }
};

struct NegativeLogAbs {
  ABQ_HOST_DEVICE void operator()(const float* x, float* y) const { y[0] = -logf(fabsf(x[0])); }
};

struct NegativeLogAbsBackward {  // x, dy
  ABQ_HOST_DEVICE void operator()(const float* x, float* y) const { y[0] = -x[1] / x[0]; }
};

// AdamW, arXiv 1711.05101: what depends on the step alone is computed once, in float64.
struct AdamWUpdate {  // parameter, gradient, mean, variance -> parameter, mean, variance
  float beta1;
  float rest1;  // 1 - beta1
  float beta2;
  float rest2;
  float decay;            // 1 - rate * weight_decay
  float step_size;        // rate / (1 - beta1^step)
  float root_correction;  // 1 / sqrt(1 - beta2^step)
  float epsilon;
  ABQ_HOST_DEVICE void operator()(const float* x, float* y) const {
    const float gradient = x[1];
    const float mean = beta1 * x[2] + rest1 * gradient;
    const float variance = beta2 * x[3] + rest2 * gradient * gradient;
    const float root = sqrtf(variance) * root_correction + epsilon;
    y[0] = x[0] * decay - step_size * mean / root;
    y[1] = mean;
    y[2] = variance;
  }
};

struct SquaredErrorBackward {  // y, target
  const float* dloss;
  float factor;  // 2 / elements
  ABQ_HOST_DEVICE void operator()(const float* x, float* y) const {
    y[0] = (x[0] - x[1]) * factor * *dloss;
  }
};

}  // namespace abq::compute::cuda
