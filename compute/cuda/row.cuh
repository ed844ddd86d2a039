// Kernels in which a team of threads works on one row: loads it once into registers, reduces over
// it, writes a row of results.
//
// An operation is a functor op(team, row). Its columns lie on the team in one fixed way, which
// depends on their number alone (RowShape), so that sums over a row have one order: thread `lane`
// holds four neighbours at 4 * (lane + team * i). Whether they move in one 16-byte access or in
// four is decided at run time (Team::vector).
//
//   i = 0                          i = 1
//   lane 0  lane 1  ...            lane 0 ...
//   c 0..3  c 4..7  ... 4*team-1   4*team ..
//
// Rows too long for registers (for_rows) are read again for every use, one column a thread.
#pragma once

#include <climits>
#include <cstdint>

#include "compute/cuda/map.cuh"

namespace abq::compute::cuda {

constexpr int kWarp = 32;
constexpr int kSmallTeamBlock = 128;  // threads in a block whose teams are warps or less

// kTeam threads (a power of two) of which each holds 4 * kItems columns; kItems = 0: none.
template <int kTeamSize, int kItemCount>
struct RowShape {
  static constexpr int kTeam = kTeamSize;
  static constexpr int kItems = kItemCount;
  static constexpr bool kInRegisters = kItems > 0;
  static constexpr int kSlots = kInRegisters ? 4 * kItems : 1;
  static constexpr int kBlock = kTeam <= kWarp ? kSmallTeamBlock : kTeam;
};

struct SumOf {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct LargerOf {  // skips NaN
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
struct SmallerOf {
  __device__ int operator()(int a, int b) const { return a < b ? a : b; }
};

template <class Shape>
struct Team {
  int lane;     // 0 .. kTeam - 1
  int cols;     // 0 for a team beyond the last row, which only keeps the others company
  bool vector;  // 16-byte accesses: all bases and the full number of columns allow them

  // True for the thread that writes what there is one of per row.
  __device__ bool leads() const { return lane == 0 && cols > 0; }

  // The same layout over the first `count` columns.
  __device__ Team first(int count) const { return {lane, cols > 0 ? count : 0, vector}; }

  // f(slot, column) for every column of this thread.
  template <class F>
  __device__ void each(F f) const {
    if constexpr (Shape::kInRegisters) {
#pragma unroll
      for (int slot = 0; slot < Shape::kSlots; ++slot) {
        const int column = 4 * (lane + Shape::kTeam * (slot / 4)) + slot % 4;
        if (column < cols) f(slot, column);
      }
    } else {
#pragma unroll 4
      for (int column = lane; column < cols; column += Shape::kTeam)
        f(0, column);
    }
  }

  // y[column] = f(slot, column).
  template <class F>
  __device__ void store(float* y, F f) const {
    if constexpr (Shape::kInRegisters) {
      if (vector) return store_vectors(y, f);
      each([&](int slot, int column) { y[column] = f(slot, column); });
    } else {
      store_batches(y, f);
    }
  }

  // Combines v of all threads of the team; every thread gets the same results. All threads of the
  // block must call it.
  template <class T, int kCount, class Combine>
  __device__ void reduce(T (&v)[kCount], Combine combine) const {
    constexpr int kLanes = Shape::kTeam < kWarp ? Shape::kTeam : kWarp;
    butterfly<kLanes>(v, combine);
    if constexpr (Shape::kTeam > kWarp) {
      constexpr int kWarps = Shape::kTeam / kWarp;
      __shared__ T parts[kCount][kWarps];
      const int warp = lane / kWarp;
      if (lane % kWarp == 0) {
#pragma unroll
        for (int k = 0; k < kCount; ++k)
          parts[k][warp] = v[k];
      }
      __syncthreads();
#pragma unroll
      for (int k = 0; k < kCount; ++k)
        v[k] = parts[k][lane % kWarps];
      butterfly<kWarps>(v, combine);
      __syncthreads();  // before the next reduction writes its parts
    }
  }

  __device__ float sum(float value) const {
    float v[1] = {value};
    reduce(v, SumOf{});
    return v[0];
  }

 private:
  template <class F>
  __device__ void store_vectors(float* y, F f) const {
#pragma unroll
    for (int slot = 0; slot < Shape::kSlots; slot += 4) {
      const int column = 4 * (lane + Shape::kTeam * (slot / 4));
      if (column >= cols) continue;
      const float v[4] = {f(slot, column), f(slot + 1, column + 1), f(slot + 2, column + 2),
                          f(slot + 3, column + 3)};
      store4(y + column, v);
    }
  }

  // Rows that f reads from memory: some columns are computed before any is stored, because a store
  // holds back the loads that follow it.
  template <class F>
  __device__ void store_batches(float* y, F f) const {
    constexpr int kBatch = 4;
    int column = lane;
    for (; column + (kBatch - 1) * Shape::kTeam < cols; column += kBatch * Shape::kTeam) {
      float v[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i)
        v[i] = f(0, column + i * Shape::kTeam);
#pragma unroll
      for (int i = 0; i < kBatch; ++i)
        y[column + i * Shape::kTeam] = v[i];
    }
    for (; column < cols; column += Shape::kTeam)
      y[column] = f(0, column);
  }

  // Over kLanes neighbouring lanes; `combine` is commutative, so that all get the same bits.
  template <int kLanes, class T, int kCount, class Combine>
  static __device__ void butterfly(T (&v)[kCount], Combine combine) {
#pragma unroll
    for (int distance = kLanes / 2; distance > 0; distance /= 2) {
#pragma unroll
      for (int k = 0; k < kCount; ++k)
        v[k] = combine(v[k], __shfl_xor_sync(0xffffffffu, v[k], distance));
    }
  }
};

// The columns of a row that a thread holds.
template <class Shape>
class Row {
 public:
  // With team.vector the last four columns are read whole, so that a row of a narrowed team must go
  // on to the full number of columns. A team narrowed to none reads nothing.
  __device__ Row(const Team<Shape>& team, const float* row) : row_(row) {
    if constexpr (Shape::kInRegisters) {
#pragma unroll
      for (int item = 0; item < Shape::kItems; ++item) {
        const int column = 4 * (team.lane + Shape::kTeam * item);
        float v[4] = {};
        if (team.vector) {
          if (column < team.cols) load4(v, row + column);
        } else {
#pragma unroll
          for (int i = 0; i < 4; ++i)
            if (column + i < team.cols) v[i] = row[column + i];
        }
#pragma unroll
        for (int i = 0; i < 4; ++i)
          values_[4 * item + i] = v[i];
      }
    }
  }

  __device__ float at(int slot, int column) const {
    if constexpr (Shape::kInRegisters) {
      return values_[slot];
    } else {
      return row_[column];
    }
  }

  // Replaces what at() gives; only for rows in registers.
  __device__ void set(int slot, float value) {
    static_assert(Shape::kInRegisters);
    values_[slot] = value;
  }

 private:
  const float* row_;
  float values_[Shape::kSlots];
};

template <class Shape, class Op>
__global__ void __launch_bounds__(Shape::kBlock)
    row_kernel(Op op, int64_t rows, int cols, bool vector) {
  constexpr int kTeams = Shape::kBlock / Shape::kTeam;
  const int in_block = static_cast<int>(threadIdx.x) / Shape::kTeam;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kTeams + in_block;
  const bool exists = row < rows;
  const Team<Shape> team{static_cast<int>(threadIdx.x) % Shape::kTeam, exists ? cols : 0, vector};
  op(team, exists ? row : rows - 1);
}

template <class Shape, class Op>
void launch_row_kernel(const Op& op, int64_t rows, int64_t cols, bool vector, cudaStream_t stream) {
  const int64_t blocks = divide_up(rows, Shape::kBlock / Shape::kTeam);
  row_kernel<Shape><<<static_cast<unsigned>(blocks), Shape::kBlock, 0, stream>>>(
      op, rows, static_cast<int>(cols), vector);
}

// op for all rows; `aligned`: all matrices that op moves with Row and store() begin at 16 bytes.
template <class Op>
void for_rows(const Op& op, int64_t rows, int64_t cols, bool aligned, cudaStream_t stream) {
  if (rows == 0 || cols == 0) return;
  const bool vector = aligned && cols % 4 == 0;
  const auto launch = [&](auto shape) {
    launch_row_kernel<decltype(shape)>(op, rows, cols, vector, stream);
  };
  if (cols <= 64) return launch(RowShape<8, 2>{});
  if (cols <= 512) return launch(RowShape<32, 4>{});
  if (cols <= 2048) return launch(RowShape<128, 4>{});
  if (cols <= 4096) return launch(RowShape<256, 4>{});
  if (cols <= 8192) return launch(RowShape<512, 4>{});
  if (cols <= 12288) return launch(RowShape<512, 6>{});
  if (cols <= 16384) return launch(RowShape<512, 8>{});
  launch(RowShape<512, 0>{});
}

}  // namespace abq::compute::cuda
