// y = x W^T for up to 8 tokens and float weights: W is read once, at memory speed.
//
// A block takes a share of the groups of four rows, each of its warps one group at a time; a lane
// takes 16 bytes of each row a step, kStages steps on their way. x lies in shared memory as
// float32, so ordered that a lane's next 16 bytes never collide with another's.
//
// A sum has one order for a given K, whatever the number of tokens: a lane adds its products by
// rising column, then lanes 16, 8, 4, 2 and 1 apart add up.

#include "runtime/cuda/tokens/float_rows.cuh"

namespace abq::runtime::cuda {
namespace {

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
  const cudaError_t ready = allow_shared(float_rows_kernel<kKind, kM>, kSharedBytes);
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
