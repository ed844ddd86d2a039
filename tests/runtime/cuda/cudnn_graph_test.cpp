// The graph of attention as cuDNN itself checks it, where cuDNN is installed; no device is needed.
#include <doctest/doctest.h>

#include "runtime/cuda/cudnn/attention_graph.h"

namespace abq::runtime::cuda {

TEST_CASE("cuDNN accepts the graph of attention for every shape that layers have") {
  const Result<const CudnnFunctions*> functions = cudnn_functions();
  if (!functions.ok()) {
    MESSAGE("skipped: ", functions.status().to_string());
    return;
  }
  for (const int group : {1, 3, 8}) {
    for (const int head_dim : {32, 64, 96, 128, 256}) {
      for (const bool scales : {false, true}) {
        FusedAttentionShape shape;
        shape.heads = 2 * group;
        shape.kv_heads = 2;
        shape.head_dim = head_dim;
        shape.row = head_dim == 96 ? 128 : head_dim;
        shape.queries = 512;
        shape.query_scales = scales;
        shape.key_scales = scales;
        CudnnDescriptors descriptors(**functions);
        CHECK(make_attention_graph(shape, nullptr, descriptors) != nullptr);
        const std::string words = descriptors.status().to_string();
        INFO(words);
        CHECK(descriptors.status().ok());
      }
    }
  }
}

TEST_CASE("the first failure among cuDNN's descriptors stays, with what it was about") {
  const Result<const CudnnFunctions*> functions = cudnn_functions();
  if (!functions.ok()) {
    MESSAGE("skipped: ", functions.status().to_string());
    return;
  }
  CudnnDescriptors descriptors(**functions);
  const cudnnBackendDescriptor_t tensor = descriptors.create(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  descriptors.finalize(tensor, "a tensor without extents");
  const Status first = descriptors.status();
  CHECK(first.code() == StatusCode::kDevice);
  CHECK(first.message().find("a tensor without extents") != std::string::npos);
  CHECK(descriptors.create(CUDNN_BACKEND_TENSOR_DESCRIPTOR) == nullptr);
  CHECK(descriptors.status().message() == first.message());
}

TEST_CASE("cuDNN's versions are written with dots") {
  CHECK(cudnn_version_text(91900) == "9.19.0");
  CHECK(cudnn_version_text(91002) == "9.10.2");
}

}  // namespace abq::runtime::cuda
