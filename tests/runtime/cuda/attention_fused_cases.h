// The cases of attention through cuDNN, for cuDNN itself and for what stands in for it on a host.
#pragma once

#include "attention_cases.h"

namespace abq::runtime::cuda {

// Head sizes 64 and 128, 1, 3 and 4 query heads for a kv head, q and kv of 16, 8 and 4 bits, chunks
// up to `longest` tokens, ragged and behind a past.
void check_fused_cases(FusedAttention& fused, int longest);

}  // namespace abq::runtime::cuda
