#include "runtime/cuda/attention/attention_launch.h"
#include "runtime/cuda/attention/decode_split.cuh"
#include "runtime/cuda/attention/score_scale.h"
#include "runtime/cuda/launch.cuh"

namespace abq::runtime::cuda {
namespace {

using Kernel = void (*)(const DecodeArguments);

struct Variant {
  Kernel kernel;
  unsigned shared_bytes;
};

template <int kPadded, int kStored>
Variant variant() {
  return {decode_split<kPadded, kStored>, sizeof(DecodeShared<kPadded, kStored>)};
}
template <int kPadded>
Variant variant_of(int stored) {
  switch (stored) {
    case 2:
      return variant<kPadded, 2>();
    case 4:
      return variant<kPadded, 4>();
    case 8:
      return variant<kPadded, 8>();
    default:
      return variant<kPadded, 16>();
  }
}
Variant choose_variant(int padded, int stored) {
  if (padded == 64) return variant_of<64>(stored);
  if (padded == 128) return variant_of<128>(stored);
  return variant_of<256>(stored);
}

}  // namespace

cudaError_t launch_decode_split(const DecodeLaunch& call, cudaStream_t stream) {
  const AttentionLayer& layer = call.layer;
  const DecodeWorkspace plan = plan_decode_workspace(layer, call.m, call.max_tokens);
  const int group = layer.heads / layer.kv_heads;
  DecodeArguments args{};
  args.layer = layer;
  args.input = call.input;
  args.sequences = call.sequences;
  args.layer_offset = call.layer_offset;
  args.score_scale = score_scale(layer.head_dim);
  args.group = group;
  args.head_tiles = tiles_of(group, kDecodeHeads);
  args.part_stride = plan.part_stride;
  args.parts = reinterpret_cast<float*>(call.workspace);
  args.part_sums = reinterpret_cast<float2*>(call.workspace + plan.parts_bytes);

  const Variant chosen =
      choose_variant(padded_head_dim(layer.head_dim), stored_bits(layer.kv_bits));
  if (const cudaError_t error = allow_shared(chosen.kernel, chosen.shared_bytes);
      error != cudaSuccess)
    return error;
  const dim3 grid(static_cast<unsigned>(plan.part_stride),
                  static_cast<unsigned>(layer.kv_heads * args.head_tiles),
                  static_cast<unsigned>(call.m));
  return launch(chosen.kernel, {grid, dim3(32 * kDecodeWarps), chosen.shared_bytes}, stream, args);
}

}  // namespace abq::runtime::cuda
