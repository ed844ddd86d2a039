// What a build without cuDNN's headers has instead of fused_attention.cpp.
#include "runtime/cuda/cudnn/fused_attention.h"

namespace abq::runtime::cuda {
namespace {

Status built_without() {
  return unsupported("cuda: built without cuDNN's headers (cudnn_graph.h)");
}

}  // namespace

Result<std::unique_ptr<FusedAttention>> FusedAttention::create() {
  return built_without();
}

Result<std::string> cudnn_version() {
  return built_without();
}

}  // namespace abq::runtime::cuda
