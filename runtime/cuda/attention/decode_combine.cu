#include "runtime/cuda/attention/attention_launch.h"
#include "runtime/cuda/attention/decode_combine.cuh"
#include "runtime/cuda/launch.cuh"

namespace abq::runtime::cuda {
namespace {

// Blocks that share a token: enough to read its parts quickly, each with whole tiles.
int cluster_size(int tiles) {
  if (!launches_overlap()) return 1;  // code that knows no clusters
  int size = kMaxCluster;
  while (size > tiles)
    size /= 2;
  return size;
}

}  // namespace

cudaError_t launch_decode_combine(const DecodeLaunch& call, cudaStream_t stream) {
  const AttentionLayer& layer = call.layer;
  const DecodeWorkspace plan = plan_decode_workspace(layer, call.m, call.max_tokens);
  const int tiles = tiles_of(static_cast<int64_t>(layer.heads) * layer.head_dim, kTileDepth);
  const int cluster = cluster_size(tiles);
  CombineArguments args{};
  args.sequences = call.sequences;
  args.parts = reinterpret_cast<const float*>(call.workspace);
  args.part_sums = reinterpret_cast<const float2*>(call.workspace + plan.parts_bytes);
  args.heads = layer.heads;
  args.kv_heads = layer.kv_heads;
  args.head_dim = layer.head_dim;
  args.padded = padded_head_dim(layer.head_dim);
  args.part_stride = plan.part_stride;
  args.window = layer.window;
  args.y = call.y;
  args.y_stride = call.y_stride;
  args.quantized = call.tokens != nullptr;
  if (call.tokens != nullptr) args.tokens = *call.tokens;
  args.block_tiles = tiles_of(tiles, cluster);

  const unsigned shared_bytes =
      static_cast<unsigned>(sizeof(CombineShared)) +
      static_cast<unsigned>(args.block_tiles) * kTileDepth * static_cast<unsigned>(sizeof(float));
  if (const cudaError_t error = allow_shared(decode_combine, shared_bytes); error != cudaSuccess)
    return error;
  const dim3 grid(static_cast<unsigned>(cluster), static_cast<unsigned>(call.m));
  return launch_clusters(decode_combine, {grid, dim3(kCombineThreads), shared_bytes}, cluster,
                         stream, args);
}

}  // namespace abq::runtime::cuda
