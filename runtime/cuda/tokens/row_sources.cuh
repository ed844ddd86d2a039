// What the row kernel works on: matrices, normalised matrices, gated products.
#pragma once

#include "compute/cuda/element_math.cuh"
#include "runtime/cuda/tokens/row_kernel.cuh"

namespace abq::runtime::cuda {

struct NoConstants {};

__device__ __forceinline__ const float* row_of(const float* data, int64_t stride, int token) {
  return data + stride * token;
}

struct PlainSource {
  static constexpr bool kSquares = false;
  using Constants = NoConstants;
  struct Loaded {
    float4 x[kLaneWords];
  };
  const float* x;
  int64_t stride;

  template <bool kVector>
  __device__ Constants constants(int, int, const RowShape&) const {
    return {};
  }
  template <bool kVector>
  __device__ Loaded load(int token, int tile, int lane, const RowShape& shape) const {
    Loaded loaded;
#pragma unroll
    for (int i = 0; i < kLaneWords; ++i) {
      loaded.x[i] = load_words<kVector>(row_of(x, stride, token),
                                        tile * kTileDepth + lane_column(i, lane), shape);
    }
    return loaded;
  }
  __device__ void values(const Loaded& loaded, Constants, float (&v)[kLaneValues], float&) const {
#pragma unroll
    for (int i = 0; i < kLaneWords; ++i) {
      v[4 * i] = loaded.x[i].x;
      v[4 * i + 1] = loaded.x[i].y;
      v[4 * i + 2] = loaded.x[i].z;
      v[4 * i + 3] = loaded.x[i].w;
    }
  }
  __device__ float factor(float) const {
    return 1.0f;
  }
};

// x weight / sqrt(mean(x^2) + eps). The weight comes first: then the largest value of a row is the
// largest product times the factor, rounded, and one reduction gives the sum of squares and the
// range, because rounding keeps order.
struct NormSource {
  static constexpr bool kSquares = true;
  struct Constants {
    float4 weight[kLaneWords];
  };
  using Loaded = PlainSource::Loaded;
  PlainSource x;
  const float* weight;
  float inverse_columns;
  float eps;

  template <bool kVector>
  __device__ Constants constants(int tile, int lane, const RowShape& shape) const {
    Constants constants;
#pragma unroll
    for (int i = 0; i < kLaneWords; ++i)
      constants.weight[i] =
          load_words<kVector>(weight, tile * kTileDepth + lane_column(i, lane), shape);
    return constants;
  }
  template <bool kVector>
  __device__ Loaded load(int token, int tile, int lane, const RowShape& shape) const {
    return x.load<kVector>(token, tile, lane, shape);
  }
  __device__ void values(const Loaded& loaded, const Constants& constants, float (&v)[kLaneValues],
                         float& squares) const {
    float weights[kLaneValues];
    float ignored = 0.0f;
    x.values(loaded, {}, v, ignored);
    x.values({{constants.weight[0], constants.weight[1]}}, {}, weights, ignored);
#pragma unroll
    for (int i = 0; i < kLaneValues; ++i) {
      squares = __fmaf_rn(v[i], v[i], squares);
      v[i] = compute::cuda::multiply_rn(v[i], weights[i]);
    }
  }
  __device__ float factor(float squares) const {
    return __frsqrt_rn(__fmaf_rn(squares, inverse_columns, eps));
  }
};

// silu(gate) * up
struct SiluSource {
  static constexpr bool kSquares = false;
  using Constants = NoConstants;
  struct Loaded {
    PlainSource::Loaded gate;
    PlainSource::Loaded up;
  };
  PlainSource gate;
  PlainSource up;

  template <bool kVector>
  __device__ Constants constants(int, int, const RowShape&) const {
    return {};
  }
  template <bool kVector>
  __device__ Loaded load(int token, int tile, int lane, const RowShape& shape) const {
    return {gate.load<kVector>(token, tile, lane, shape),
            up.load<kVector>(token, tile, lane, shape)};
  }
  __device__ void values(const Loaded& loaded, Constants, float (&v)[kLaneValues],
                         float& ignored) const {
    float ups[kLaneValues];
    gate.values(loaded.gate, {}, v, ignored);
    up.values(loaded.up, {}, ups, ignored);
#pragma unroll
    for (int i = 0; i < kLaneValues; ++i) {
      const float operands[2] = {v[i], ups[i]};
      compute::cuda::SiluMul{}(operands, &v[i]);
    }
  }
  __device__ float factor(float) const {
    return 1.0f;
  }
};

}  // namespace abq::runtime::cuda
