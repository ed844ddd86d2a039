#include <algorithm>

#include "runtime/cuda/attention/attention_launch.h"
#include "runtime/cuda/attention/prefill_flash.cuh"
#include "runtime/cuda/attention/prefill_prepare.cuh"
#include "runtime/cuda/attention/score_scale.h"
#include "runtime/cuda/launch.cuh"

namespace abq::runtime::cuda {
namespace {

template <int kPadded, bool kCoded>
cudaError_t launch_flash(const FlashArguments& args, cudaStream_t stream) {
  constexpr unsigned kSharedBytes = sizeof(FlashShared<kPadded, kCoded>);
  const auto kernel = prefill_flash<kPadded, kCoded>;
  if (const cudaError_t error = allow_shared(kernel, kSharedBytes); error != cudaSuccess)
    return error;
  const dim3 grid(static_cast<unsigned>(tiles_of(args.m, kFlashQueries)),
                  static_cast<unsigned>(args.layer.heads));
  return launch(kernel, {grid, dim3(kFlashThreads), kSharedBytes}, stream, args);
}
template <int kPadded>
cudaError_t launch_flash(const FlashArguments& args, cudaStream_t stream) {
  return args.layer.kv_bits > 8 ? launch_flash<kPadded, false>(args, stream)
                                : launch_flash<kPadded, true>(args, stream);
}

template <int kPadded>
cudaError_t launch_prepare(const PrepareArguments& args, cudaStream_t stream) {
  const int rows = args.layer.heads + 2 * args.layer.kv_heads;
  const dim3 grid(static_cast<unsigned>(args.m),
                  static_cast<unsigned>(tiles_of(rows, kPrepareWarps * args.warp_rows)));
  return launch(prefill_prepare<kPadded>,
                {grid, dim3(32 * kPrepareWarps), kPrepareWarps * kPadded * 2}, stream, args);
}

// Many heads a warp share a rotation, few fill the device sooner.
int warp_rows(int m) {
  constexpr int kTokensPerRow = 64;
  constexpr int kMostRows = 8;
  return std::clamp(m / kTokensPerRow, 1, kMostRows);
}

}  // namespace

cudaError_t launch_prefill_prepare(const PrefillLaunch& call, const PreparedRows& to,
                                   cudaStream_t stream) {
  PrepareArguments args{};
  args.layer = call.layer;
  args.input = call.input;
  args.sequence = call.sequence;
  args.layer_offset = call.layer_offset;
  args.m = call.m;
  args.warp_rows = warp_rows(call.m);
  args.to = to;
  switch (padded_head_dim(call.layer.head_dim)) {
    case 64:
      return launch_prepare<64>(args, stream);
    case 128:
      return launch_prepare<128>(args, stream);
    default:
      return launch_prepare<256>(args, stream);
  }
}

cudaError_t launch_prefill_flash(const PrefillLaunch& call, cudaStream_t stream) {
  const PrefillWorkspace plan = plan_prefill_workspace(call.layer, call.m);
  FlashArguments args{};
  args.layer = call.layer;
  args.sequence = call.sequence;
  args.layer_offset = call.layer_offset;
  args.m = call.m;
  args.m_padded = plan.m_padded;
  args.queries = reinterpret_cast<const uint4*>(call.workspace);
  args.query_scales = reinterpret_cast<const float*>(call.workspace + plan.queries_bytes);
  args.score_scale = score_scale(call.layer.head_dim);
  args.y = call.y;
  args.y_stride = call.y_stride;
  switch (padded_head_dim(call.layer.head_dim)) {
    case 64:
      return launch_flash<64>(args, stream);
    case 128:
      return launch_flash<128>(args, stream);
    default:
      return launch_flash<256>(args, stream);
  }
}

}  // namespace abq::runtime::cuda
