// Attention over float16 rows in double precision, for host tests of the launches around cuDNN.
#pragma once

#include "runtime/cuda/cudnn/fused_attention.h"

namespace abq::runtime::cuda {

// Refuses heads of an odd multiple of two elements, as cuDNN does. Checks (doctest) that rows of
// keys and values are numbers up to the end of the last tile.
class HostFusedAttention : public FusedAttention {
 public:
  std::string version() const override { return "host"; }
  Status prepare(const FusedAttentionShape& shape) override;
  int64_t workspace_bytes() const override { return 16; }
  Status run(const FusedAttentionShape& shape, const FusedAttentionBuffers& buffers,
             cudaStream_t stream) override;
};

}  // namespace abq::runtime::cuda
