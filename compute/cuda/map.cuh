// Kernels that compute every element of their outputs from the elements at the same place of their
// inputs: four neighbours a thread, 16-byte accesses where all bases allow them.
#pragma once

#include <cstdint>

namespace abq::compute::cuda {

constexpr int kMapThreads = 256;

inline bool aligned16(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;  // null is
}
// True when all pointers allow 16-byte accesses.
template <class... Pointers>
bool all_aligned16(const Pointers*... pointers) {
  return (aligned16(pointers) && ...);
}

constexpr int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

template <int kInputs, int kOutputs>
struct Operands {
  const float* in[kInputs > 0 ? kInputs : 1];
  float* out[kOutputs];
};

__device__ __forceinline__ void load4(float (&v)[4], const float* p) {
  const float4 q = *reinterpret_cast<const float4*>(p);
  v[0] = q.x;
  v[1] = q.y;
  v[2] = q.z;
  v[3] = q.w;
}

__device__ __forceinline__ void store4(float* p, const float (&v)[4]) {
  *reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]);
}

// f(in, out): in[i] is the element of input i, out[o] the one of output o. An output may be an
// input: a thread has read its four elements before it writes them.
template <int kInputs, int kOutputs, class F>
__global__ void __launch_bounds__(kMapThreads)
    map_kernel(Operands<kInputs, kOutputs> operands, int64_t n, bool vector, F f) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kMapThreads + threadIdx.x) * 4;
  if (first >= n) return;
  const int count = n - first < 4 ? static_cast<int>(n - first) : 4;
  const bool whole = vector && count == 4;
  float in[kInputs > 0 ? kInputs : 1][4] = {};
  float out[kOutputs][4];
#pragma unroll
  for (int k = 0; k < kInputs; ++k) {
    const float* const p = operands.in[k] + first;
    if (whole) {
      load4(in[k], p);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (i < count) in[k][i] = p[i];
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float x[kInputs > 0 ? kInputs : 1];
    float y[kOutputs];
#pragma unroll
    for (int k = 0; k < kInputs; ++k)
      x[k] = in[k][i];
    f(x, y);
#pragma unroll
    for (int k = 0; k < kOutputs; ++k)
      out[k][i] = y[k];
  }
#pragma unroll
  for (int k = 0; k < kOutputs; ++k) {
    float* const p = operands.out[k] + first;
    if (whole) {
      store4(p, out[k]);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (i < count) p[i] = out[k][i];
    }
  }
}

template <int kInputs, int kOutputs, class F>
void map(const Operands<kInputs, kOutputs>& operands, int64_t n, const F& f, cudaStream_t stream) {
  if (n == 0) return;
  bool vector = true;
  for (int k = 0; k < kInputs; ++k)
    vector &= aligned16(operands.in[k]);
  for (int k = 0; k < kOutputs; ++k)
    vector &= aligned16(operands.out[k]);
  const int64_t blocks = divide_up(n, int64_t{4} * kMapThreads);
  map_kernel<<<static_cast<unsigned>(blocks), kMapThreads, 0, stream>>>(operands, n, vector, f);
}

}  // namespace abq::compute::cuda
