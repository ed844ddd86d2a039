// What one thread of a block does in each phase of the Hadamard transform: its rounds
// (hadamard_unit.cuh), then the mixing of parts. For host and device.
#pragma once

#include <cstring>

#include "runtime/cuda/tokens/hadamard_unit.cuh"

namespace abq::runtime::cuda {

// --- The signs of a quad of rows, column after column

struct FloatSigns {
  const float4* at;
  int step;  // from column to column

  ABQ_HOST_DEVICE void next(float (&signs)[kHadamardRows]) {
    const float4 four = *at;
    at += step;
    signs[0] = four.x;
    signs[1] = four.y;
    signs[2] = four.z;
    signs[3] = four.w;
  }
};

// Four times less to bring and to keep than floats, for an instruction a sign.
struct PackedSigns {
  const uint32_t* at;
  int step;

  ABQ_HOST_DEVICE void next(float (&signs)[kHadamardRows]) {
    const uint32_t four = *at;
    at += step;
#ifdef __CUDA_ARCH__
#pragma unroll
    for (int r = 0; r < kHadamardRows; ++r)
      signs[r] = __uint_as_float(__byte_perm(four, 0x80u, 0x0455u | (r << 12)));
#else
    for (int r = 0; r < kHadamardRows; ++r)
      signs[r] = ((four >> (8 * r)) & 0x80u) != 0 ? -1.0f : 1.0f;
#endif
  }
};

struct HadamardBlock : HadamardUnit {
  unsigned char* kept;  // signs of the share, where they are staged

  ABQ_HOST_DEVICE HadamardBlock(const HadamardMatrix& h, const HadamardBlockPlan& p,
                                int thread_index, bool vectors, unsigned char* memory)
      : HadamardUnit(h, p, thread_index, vectors, memory), kept(memory + p.value_bytes) {}

  // Quads from column to column of the whole matrix; the share's lie next to each other.
  ABQ_HOST_DEVICE int sign_step() const { return matrix.order / kHadamardRows; }
  ABQ_HOST_DEVICE const float4* signs() const {
    return reinterpret_cast<const float4*>(matrix.signs) + share.first_row;
  }

  // The signs of the share's rows, [column][quad]. Weights, as it were: nobody writes them.
  ABQ_HOST_DEVICE void stage_signs() const {
    if (!plan.staged) return;
    for_signs([&](int to, int from) { reinterpret_cast<float4*>(kept)[to] = signs()[from]; });
  }
  // The same of packed signs, by asynchronous copies.
  ABQ_HOST_DEVICE void stage_packed() const {
    if (share.quads == sign_step()) {  // all of them, in whole vectors
      for (int i = 4 * thread; i < share.quads * matrix.order; i += 4 * plan.threads)
        copy_async<16>(kept + 4 * i, matrix.packed + i);
    } else {
      const uint32_t* const from_row = matrix.packed + share.first_row;
      for_signs([&](int to, int from) { copy_async<4>(kept + 4 * to, from_row + from); });
    }
  }

  // Parts i of a segment: scale * sum over j, from 0 on, of H_order[i, j] * part j.
  template <int kColumns>
  ABQ_HOST_DEVICE void mix() const {
    // Two calls, so that the compiler knows which memory each of them reads.
    if (plan.staged) {
      mix_by<kColumns>({reinterpret_cast<const float4*>(kept), share.quads});
    } else {
      mix_by<kColumns>({signs(), sign_step()});
    }
  }

  // An item: four parts at kColumns columns of a segment: 1, 4 neighbours, or twice 4 that lie half
  // a part apart, so that neighbouring threads read neighbouring vectors.
  template <int kColumns>
  ABQ_HOST_DEVICE int items() const {
    return (share.last_quad - share.first_quad) * (matrix.length / kColumns);
  }
  // The thread's only item, by packed signs, not written yet: others still read the values.
  template <int kColumns>
  ABQ_HOST_DEVICE void mix_own(float (&sums)[kHadamardRows][kColumns]) const {
    if (thread >= items<kColumns>()) return;
    mix_item(place_of<kColumns>(thread),
             PackedSigns{reinterpret_cast<const uint32_t*>(kept), share.quads}, sums);
  }
  template <int kColumns>
  ABQ_HOST_DEVICE void write_own(const float (&sums)[kHadamardRows][kColumns]) const {
    if (thread < items<kColumns>()) write_item(place_of<kColumns>(thread), sums);
  }

 private:
  // copy(to, from) for the quads of the share that this thread brings.
  template <class Copy>
  ABQ_HOST_DEVICE void for_signs(const Copy& copy) const {
    for (int i = thread; i < share.quads * matrix.order; i += plan.threads) {
      const int column = i / share.quads;
      copy(i, column * sign_step() + i - column * share.quads);
    }
  }
  template <int kBytes>
  ABQ_HOST_DEVICE static void copy_async(void* shared, const void* global) {
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(
                     static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
                 "l"(global), "n"(kBytes)
                 : "memory");
#else
    std::memcpy(shared, global, kBytes);
#endif
  }

  struct Item {
    int segment;  // its first float
    int quad;     // of the share's signs
    int column;
  };
  template <int kColumns>
  ABQ_HOST_DEVICE Item place_of(int item) const {
    const int groups = matrix.length / kColumns;
    const int quad = share.first_quad + item / groups;
    constexpr int kNeighbours = kColumns < 4 ? kColumns : 4;
    return {quad / share.quads * matrix.size(), quad % share.quads, item % groups * kNeighbours};
  }

  template <int kColumns>
  ABQ_HOST_DEVICE void mix_by(const FloatSigns& signs) const {
    for (int i = thread; i < items<kColumns>(); i += plan.threads) {
      const Item item = place_of<kColumns>(i);
      float sums[kHadamardRows][kColumns];
      mix_item(item, signs, sums);
      write_item(item, sums);
    }
  }

  template <class Signs, int kColumns>
  ABQ_HOST_DEVICE void mix_item(const Item& item, Signs signs,
                                float (&sums)[kHadamardRows][kColumns]) const {
    const int step = at(matrix.length);
    const int half = at(matrix.length / 2);
    const float* part = values + at(item.segment + item.column);
    signs.at += item.quad;
    for (auto& of_row : sums)
      for (float& sum : of_row)
        sum = 0.0f;
#ifdef __CUDA_ARCH__
#pragma unroll 4
#endif
    for (int j = 0; j < matrix.order; ++j) {
      float of_rows[kHadamardRows];
      signs.next(of_rows);
      add_part(of_rows, part, half, sums);
      part += step;
    }
  }

  template <int kColumns>
  ABQ_HOST_DEVICE void write_item(const Item& item,
                                  const float (&sums)[kHadamardRows][kColumns]) const {
    const int row = (share.first_row + item.quad) * kHadamardRows;
    const int to = item.segment + row * matrix.length + item.column;
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
    for (int r = 0; r < kHadamardRows; ++r) {
      const int place = to + r * matrix.length;
      if constexpr (kColumns == 1) {
        write<1>(place, sums[r]);
      } else {
        write<4>(place, sums[r]);
        if constexpr (kColumns == 8) write<4>(place + matrix.length / 2, sums[r] + 4);
      }
    }
  }

  // Products with 1 and -1 are exact, so that fusing them changes nothing.
  template <int kColumns>
  ABQ_HOST_DEVICE static void add_part(const float (&signs)[kHadamardRows], const float* part,
                                       int half, float (&sums)[kHadamardRows][kColumns]) {
    float v[kColumns];
    if constexpr (kColumns % 4 == 0) {
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
      for (int c = 0; c < kColumns; c += 4) {
        const float4 four = *reinterpret_cast<const float4*>(part + (c > 0 ? half : 0));
        v[c] = four.x;
        v[c + 1] = four.y;
        v[c + 2] = four.z;
        v[c + 3] = four.w;
      }
    } else {
      v[0] = *part;
    }
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
    for (int r = 0; r < kHadamardRows; ++r) {
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
      for (int c = 0; c < kColumns; ++c)
        sums[r][c] = fused_multiply_add(v[c], signs[r], sums[r][c]);
    }
  }
};

// A unit that is written.
template <class Block, class Meet>
ABQ_HOST_DEVICE void transform_unit(const Block& block, const Meet& meet) {
  transform_rounds(block, meet);
  if (block.matrix.order == 1) {
    block.store();
  } else if (block.plan.columns == 4) {
    block.template mix<4>();
  } else {
    block.template mix<1>();
  }
}

}  // namespace abq::runtime::cuda
