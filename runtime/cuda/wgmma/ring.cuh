// What the kernels of this folder share: the roles of a block's warpgroups and the rings of slots
// in shared memory through which they talk.
#pragma once

#include <cstdint>

namespace abq::runtime::cuda::wgmma {

inline constexpr int kWarpgroup = 128;
// One producer warpgroup and two consumer warpgroups share 65,536 registers.
inline constexpr int kProducerRegisters = 40;
inline constexpr int kConsumerRegisters = 232;

// A place in a ring: the slot, and the parity of the round.
struct RingPosition {
  int slot = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance(int slots) {
    if (++slot == slots) {
      slot = 0;
      parity ^= 1;
    }
  }
};

}  // namespace abq::runtime::cuda::wgmma
