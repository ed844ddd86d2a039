// y = x W^T for up to 8 tokens and float weights: W is read once, at memory speed.
//
// A block takes a share of the groups of four rows, each of its warps one group at a time; a lane
// takes 16 bytes of each row a step, kStages steps on their way. x lies in shared memory as
// float32, so ordered that a lane's next 16 bytes never collide with another's.
//
// A sum has one order for a given K, whatever the number of tokens: a lane adds its products by
// rising column, then lanes 16, 8, 4, 2 and 1 apart add up.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "runtime/cuda/tokens/row_kernel.cuh"
#include "runtime/cuda/tokens/token_launchers.h"

namespace abq::runtime::cuda {
namespace {

constexpr int kRows = 4;  // of a group
constexpr int kBlockThreads = 512;
constexpr int kSharedBytes = 160 << 10;  // for x

// The values of 16 bytes, four at a time.
template <FloatKind kKind>
struct Vector {
  static constexpr int kCount = 8;
  static constexpr int kBytes = 2;
  static __device__ __forceinline__ void unpack(const uint4& v, int half, float (&out)[4]) {
    const uint32_t words[2] = {half ? v.z : v.x, half ? v.w : v.y};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if constexpr (kKind == FloatKind::kF16) {
        const float2 pair = __half22float2(*reinterpret_cast<const __half2*>(&words[i]));
        out[2 * i] = pair.x;
        out[2 * i + 1] = pair.y;
      } else {
        out[2 * i] = __uint_as_float(words[i] << 16);
        out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
      }
    }
  }
};
template <>
struct Vector<FloatKind::kF32> {
  static constexpr int kCount = 4;
  static constexpr int kBytes = 4;
  static __device__ __forceinline__ void unpack(const uint4& v, int, float (&out)[4]) {
    out[0] = __uint_as_float(v.x);
    out[1] = __uint_as_float(v.y);
    out[2] = __uint_as_float(v.z);
    out[3] = __uint_as_float(v.w);
  }
};

struct FloatRows {
  const unsigned char* weights;
  int64_t row_bytes;
  int64_t n;
  int k;
  int m;
  RowsIn x;
  RowsIn residual;
  RowsOut y;
  bool vector;      // x can be read 16 bytes at once
  int steps;        // of a row
  int chunk_steps;  // whose part of x is in shared memory at a time
  int groups;       // of rows
};

__device__ __forceinline__ uint4 load_stream(const void* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

// Where a warp's loads have got to.
template <FloatKind kKind>
struct Cursor {
  const unsigned char* base;  // of the group's first row
  int last_row;               // of the group: rows beyond W's last read that one
  int group;
  int step = 0;

  __device__ __forceinline__ Cursor(const FloatRows& a, int first_group) : group(first_group) {
    find_rows(a);
  }
  __device__ __forceinline__ void find_rows(const FloatRows& a) {
    const int64_t row = static_cast<int64_t>(group) * kRows;
    base = a.weights + row * a.row_bytes;
    last_row = static_cast<int>(min(a.n - 1 - row, static_cast<int64_t>(kRows - 1)));
  }
  __device__ __forceinline__ void fetch(const FloatRows& a, int last_group, int warps, int lane,
                                        uint4 (&out)[kRows]) {
    const int column = (step * kLanes + lane) * Vector<kKind>::kCount;
    const bool inside = group < last_group && column < a.k;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      out[r] = make_uint4(0, 0, 0, 0);
      if (inside)
        out[r] =
            load_stream(base + min(r, last_row) * a.row_bytes + column * Vector<kKind>::kBytes);
    }
    if (++step < a.steps) return;
    step = 0;
    group += warps;
    find_rows(a);
  }
};

// x of the steps from `first_step` on: [token][step][half][lane][4].
template <FloatKind kKind, int kM>
__device__ void stage_x(const FloatRows& a, int first_step, float* shared) {
  constexpr int kStep = kLanes * Vector<kKind>::kCount;
  constexpr int kHalves = Vector<kKind>::kCount / 4;
  const RowShape shape{a.k, 0, 1, a.vector};
  const int words = a.chunk_steps * kStep / 4;
  for (int m = 0; m < kM; ++m) {
    for (int i = static_cast<int>(threadIdx.x); i < words; i += static_cast<int>(blockDim.x)) {
      const int column = first_step * kStep + 4 * i;
      float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (m < a.m) v = load_words(a.x.data + a.x.stride * m, column, shape);
      const int step = i / (kStep / 4);
      const int lane = i / kHalves % kLanes;
      const int half = i % kHalves;
      *reinterpret_cast<float4*>(shared + (m * a.chunk_steps + step) * kStep +
                                 (half * kLanes + lane) * 4) = v;
    }
  }
}

template <FloatKind kKind, int kM>
__device__ __forceinline__ void multiply_step(const uint4 (&w)[kRows], const float* x,
                                              int token_stride, int lane,
                                              float (&sums)[kRows * kM]) {
#pragma unroll
  for (int half = 0; half < Vector<kKind>::kCount / 4; ++half) {
    float values[kRows][4];
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      Vector<kKind>::unpack(w[r], half, values[r]);
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      const float4 v =
          *reinterpret_cast<const float4*>(x + m * token_stride + (half * kLanes + lane) * 4);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        float& sum = sums[r * kM + m];
        sum = __fmaf_rn(values[r][0], v.x, sum);
        sum = __fmaf_rn(values[r][1], v.y, sum);
        sum = __fmaf_rn(values[r][2], v.z, sum);
        sum = __fmaf_rn(values[r][3], v.w, sum);
      }
    }
  }
}

// Adds up kCount sums over the lanes; each halving of the sums a lane still holds goes with one
// exchange. Sum i ends in v[0] of lanes i * 32 / kCount and following.
template <int kCount, int kDistance = 16, int kSize>
__device__ __forceinline__ void add_lanes(float (&v)[kSize], int lane) {
  if constexpr (kCount > 1) {
    const bool upper = (lane & kDistance) != 0;
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      const float kept = upper ? v[i + kCount / 2] : v[i];
      const float given = upper ? v[i] : v[i + kCount / 2];
      v[i] = kept + __shfl_xor_sync(kAllLanes, given, kDistance);
    }
    if constexpr (kDistance > 1) add_lanes<kCount / 2, kDistance / 2>(v, lane);
  } else {
    v[0] += __shfl_xor_sync(kAllLanes, v[0], kDistance);
    if constexpr (kDistance > 1) add_lanes<1, kDistance / 2>(v, lane);
  }
}

template <int kM>
__device__ __forceinline__ void store_group(const FloatRows& a, int group, int last_group, int lane,
                                            float (&sums)[kRows * kM]) {
  constexpr int kCount = kRows * kM;
  add_lanes<kCount>(sums, lane);
  const int index = lane / (kLanes / kCount);
  const int m = index % kM;
  const int64_t row = static_cast<int64_t>(group) * kRows + index / kM;
  const bool writes = lane % (kLanes / kCount) == 0 && group < last_group && row < a.n && m < a.m;
  if (writes) {
    float value = sums[0];
    if (a.residual.data != nullptr) value += a.residual.data[a.residual.stride * m + row];
    a.y.data[a.y.stride * m + row] = value;
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i)
    sums[i] = 0.0f;
}

template <FloatKind kKind, int kM>
__global__ void __launch_bounds__(kBlockThreads, 1) float_rows_kernel(const FloatRows a) {
  extern __shared__ float4 shared_words[];
  float* const shared = reinterpret_cast<float*>(shared_words);
  constexpr int kStages = kM >= 8 ? 2 : 4;
  constexpr int kStep = kLanes * Vector<kKind>::kCount;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const int warps = static_cast<int>(blockDim.x) / kLanes;
  const int64_t share = static_cast<int64_t>(a.groups) * blockIdx.x;
  const int first_group = static_cast<int>(share / gridDim.x);
  const int last_group = static_cast<int>((share + a.groups) / gridDim.x);
  // The same for all warps: those without a group multiply zeros.
  const int total = divide_up(last_group - first_group, warps) * a.steps;

  Cursor<kKind> cursor(a, first_group + warp);
  uint4 w[kStages][kRows];
#pragma unroll
  for (int stage = 0; stage < kStages; ++stage)
    cursor.fetch(a, last_group, warps, lane, w[stage]);
  release_next();
  wait_for_previous();

  const bool whole = a.chunk_steps >= a.steps;
  if (whole) {
    stage_x<kKind, kM>(a, 0, shared);
    __syncthreads();
  }
  float sums[kRows * kM] = {};
  int step = 0;
  int chunk_start = 0;
  int group = first_group + warp;
  for (int start = 0; start < total; start += kStages) {
#pragma unroll
    for (int stage = 0; stage < kStages; ++stage) {
      if (start + stage >= total) break;
      if (!whole && step % a.chunk_steps == 0) {
        chunk_start = step;
        __syncthreads();
        stage_x<kKind, kM>(a, step, shared);
        __syncthreads();
      }
      multiply_step<kKind, kM>(w[stage], shared + (step - chunk_start) * kStep,
                               a.chunk_steps * kStep, lane, sums);
      cursor.fetch(a, last_group, warps, lane, w[stage]);
      if (++step < a.steps) continue;
      store_group<kM>(a, group, last_group, lane, sums);
      step = 0;
      group += warps;
    }
  }
}

template <FloatKind kKind>
__device__ float element(const unsigned char* row, int64_t index) {
  if constexpr (kKind == FloatKind::kF32) {
    return reinterpret_cast<const float*>(row)[index];
  } else if constexpr (kKind == FloatKind::kF16) {
    return __half2float(reinterpret_cast<const __half*>(row)[index]);
  } else {
    return __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(row)[index]);
  }
}

// Any alignment and any K: a warp for each row and token.
template <FloatKind kKind>
__global__ void __launch_bounds__(kBlockThreads) any_rows_kernel(const FloatRows a) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int64_t row =
      static_cast<int64_t>(blockIdx.x) * (blockDim.x / kLanes) + threadIdx.x / kLanes;
  release_next();
  wait_for_previous();
  if (row >= a.n) return;
  const unsigned char* const weights = a.weights + row * a.row_bytes;
  for (int m = 0; m < a.m; ++m) {
    const float* const x = a.x.data + a.x.stride * m;
    float sum = 0.0f;
    for (int column = lane; column < a.k; column += kLanes)
      sum = __fmaf_rn(element<kKind>(weights, column), x[column], sum);
    sum = warp_sum(sum);
    if (lane != 0) continue;
    if (a.residual.data != nullptr) sum += a.residual.data[a.residual.stride * m + row];
    a.y.data[a.y.stride * m + row] = sum;
  }
}

int multiprocessors() {
  static const int count = [] {
    int device = 0;
    int value = 1;
    if (cudaGetDevice(&device) == cudaSuccess)
      (void)cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, device);
    return value;
  }();
  return count;
}

template <FloatKind kKind, int kM>
cudaError_t launch_for(FloatRows a, cudaStream_t stream) {
  constexpr int kStep = kLanes * Vector<kKind>::kCount;
  constexpr int kStepBytes = kM * kStep * static_cast<int>(sizeof(float));
  static const cudaError_t ready = cudaFuncSetAttribute(
      float_rows_kernel<kKind, kM>, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (ready != cudaSuccess) return ready;
  a.steps = divide_up(a.k, kStep);
  a.chunk_steps = a.steps < kSharedBytes / kStepBytes ? a.steps : kSharedBytes / kStepBytes;
  a.groups = static_cast<int>((a.n + kRows - 1) / kRows);
  const int blocks = a.groups < multiprocessors() ? a.groups : multiprocessors();
  const int needed = divide_up(a.groups, blocks) * kLanes;
  const LaunchShape shape{
      dim3(static_cast<unsigned>(blocks)),
      dim3(static_cast<unsigned>(needed < kBlockThreads ? needed : kBlockThreads)),
      static_cast<unsigned>(a.chunk_steps * kStepBytes)};
  return launch(float_rows_kernel<kKind, kM>, shape, stream, a);
}

template <FloatKind kKind>
cudaError_t launch_as(const FloatRows& a, cudaStream_t stream) {
  const bool aligned =
      reinterpret_cast<uintptr_t>(a.weights) % 16 == 0 && a.k % Vector<kKind>::kCount == 0;
  if (!aligned) {
    constexpr int kWarps = kBlockThreads / kLanes;
    const LaunchShape shape{dim3(static_cast<unsigned>((a.n + kWarps - 1) / kWarps)),
                            dim3(kBlockThreads)};
    return launch(any_rows_kernel<kKind>, shape, stream, a);
  }
  if (a.m == 1) return launch_for<kKind, 1>(a, stream);
  if (a.m == 2) return launch_for<kKind, 2>(a, stream);
  if (a.m <= 4) return launch_for<kKind, 4>(a, stream);
  return launch_for<kKind, 8>(a, stream);
}

}  // namespace

cudaError_t launch_float_rows(RowsIn x, const FloatWeights& weights, RowsIn residual, RowsOut y,
                              int m, cudaStream_t stream) {
  FloatRows a{};
  a.weights = static_cast<const unsigned char*>(weights.data);
  a.n = weights.rows;
  a.k = static_cast<int>(weights.columns);
  a.row_bytes = weights.columns * (weights.kind == FloatKind::kF32 ? 4 : 2);
  a.m = m;
  a.x = x;
  a.residual = residual;
  a.y = y;
  a.vector = reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.stride % 4 == 0 && a.k % 4 == 0;
  switch (weights.kind) {
    case FloatKind::kF32:
      return launch_as<FloatKind::kF32>(a, stream);
    case FloatKind::kF16:
      return launch_as<FloatKind::kF16>(a, stream);
    case FloatKind::kBF16:
      return launch_as<FloatKind::kBF16>(a, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace abq::runtime::cuda
