#include "runtime/cuda/engine/launcher.h"

namespace abq::runtime::cuda {
namespace {

const Program::Operation& operation_of(const Program& program, int step) {
  return program.steps[static_cast<size_t>(step)].operation;
}

}  // namespace

struct Launcher::Run {
  int index = 0;  // of the launch
  const RunShape& shape;
  const RunInputs& inputs;
  cudaStream_t stream;
};

Launcher::Launcher(const Program& program, const LaunchList& list, const DeviceWeights& weights,
                   const ActivationMemory& memory, const KernelChoice& choice,
                   PrefillChoice& prefill)
    : program_(program),
      list_(list),
      weights_(weights),
      memory_(memory),
      choice_(choice),
      prefill_(prefill),
      layer_offsets_(list.launches.size(), 0) {
  for (size_t i = 0; i < list.launches.size(); ++i) {
    const auto* attention = std::get_if<AttentionLaunch>(&list.launches[i].operation);
    if (attention == nullptr) continue;
    layer_offsets_[i] = cache_token_bytes_;
    cache_token_bytes_ += cuda::cache_token_bytes(attention_layer(program, *attention, weights[i]));
  }
}

Rows Launcher::rows(const Run& run, const Place& place) const {
  return memory_.rows(place, run.shape, run.index);
}

Status Launcher::run(const RunShape& shape, const RunInputs& inputs, cudaStream_t stream) {
  const int end = shape.rows > 0 ? static_cast<int>(list_.launches.size()) : list_.first_row_wise;
  for (int i = 0; i < end; ++i) {
    const Launch& described = list_.launches[static_cast<size_t>(i)];
    const Run state{i, shape, inputs, stream};
    const Status status = std::visit(
        [&](const auto& operation) { return launch(state, operation); }, described.operation);
    if (!status.ok()) return status.with_context(described.name);
  }
  return {};
}

Status Launcher::launch(const Run& run, const EmbedLaunch& launch) {
  return embed(weights_[static_cast<size_t>(run.index)].matrix, run.inputs.ids, rows(run, launch.y),
               run.stream);
}

Status Launcher::launch(const Run& run, const NormLaunch& launch) {
  const float eps = std::get<Program::RmsNorm>(operation_of(program_, launch.step)).eps;
  const float* const weight = weights_[static_cast<size_t>(run.index)].vector;
  if (launch.tokens == kNone) {
    return rms_norm(rows(run, launch.x), weight, eps, rows(run, launch.y), run.stream);
  }
  return rms_norm_quantize(rows(run, launch.x), weight, eps, rows(run, launch.y),
                           memory_.tokens(launch.tokens, run.shape, run.index), run.stream);
}

Status Launcher::launch(const Run& run, const QuantizeLaunch& launch) {
  if (run.shape.decode && !launch.in_decode) return {};
  return quantize(rows(run, launch.x), memory_.tokens(launch.tokens, run.shape, run.index),
                  run.stream);
}

Status Launcher::launch(const Run& run, const SiluMulLaunch& launch) {
  if (launch.tokens == kNone) {
    return silu_mul(rows(run, launch.gate), rows(run, launch.up), rows(run, launch.y), run.stream);
  }
  return silu_mul_quantize(rows(run, launch.gate), rows(run, launch.up),
                           memory_.tokens(launch.tokens, run.shape, run.index), run.stream);
}

Status Launcher::launch(const Run& run, const AddLaunch& launch) {
  return add(rows(run, launch.a), rows(run, launch.b), rows(run, launch.y), run.stream);
}

Status Launcher::launch(const Run& run, const SplitLaunch& launch) {
  return split_halves(rows(run, launch.x), memory_.halves(launch.halves, run.shape, run.index),
                      run.stream);
}

Status Launcher::launch(const Run& run, const QuantizedLinearLaunch& launch) {
  const WeightTiles& tiles = weights_[static_cast<size_t>(run.index)].tiles;
  const Rows y = rows(run, launch.y);
  const Rows residual = rows(run, launch.residual);
  LinearOutput output;
  output.y = y.data;
  output.stride = y.stride;
  output.residual = residual.data;
  output.residual_stride = residual.stride;
  if (launch.activation_bits >= 16) {
    return run_half_linear(tiles, memory_.halves(launch.input, run.shape, run.index), output,
                           run.stream);
  }
  const LinearKernel kernel = choice_(linear_problem(tiles, launch.activation_bits, y.m));
  return run_linear(kernel, tiles, memory_.tokens(launch.input, run.shape, run.index), output,
                    run.stream);
}

Status Launcher::launch(const Run& run, const FloatLinearLaunch& launch) {
  const Rows residual = rows(run, launch.residual);
  return float_linear_.run(rows(run, launch.x), weights_[static_cast<size_t>(run.index)].matrix,
                           residual.data, residual.stride, rows(run, launch.y), memory_.workspace(),
                           run.stream);
}

Status Launcher::launch(const Run& run, const RotaryLaunch& launch) {
  const auto& operation = std::get<Program::Rope>(operation_of(program_, launch.step));
  const Rows x = rows(run, launch.x);
  const Rows y = rows(run, launch.y);
  return rope(x.data, x.stride, x.columns, operation.head_dim,
              weights_[static_cast<size_t>(run.index)].vector, run.inputs.sequences,
              run.shape.decode, x.m, y.data, y.stride, run.stream);
}

Status Launcher::launch(const Run& run, const HadamardLaunch& launch) {
  const HadamardMatrix& matrix = weights_[static_cast<size_t>(run.index)].hadamard;
  const Rows y = rows(run, launch.y);
  if (launch.tokens == kNone) return hadamard(rows(run, launch.x), matrix, y, run.stream);
  return hadamard_quantize(rows(run, launch.x), matrix, y, launch.y_is_read,
                           memory_.tokens(launch.tokens, run.shape, run.index), run.stream);
}

Status Launcher::launch(const Run& run, const AttentionLaunch& launch) {
  const size_t index = static_cast<size_t>(run.index);
  const AttentionLayer layer = attention_layer(program_, launch, weights_[index]);
  const Rows q = rows(run, launch.q);
  const Rows k = rows(run, launch.k);
  const Rows v = rows(run, launch.v);
  const AttentionInput input = {q.data, k.data, v.data, q.stride, k.stride, v.stride};
  const Rows y = rows(run, launch.y);
  if (!run.shape.decode) {
    const int64_t tokens = run.shape.max_tokens;
    if (FusedAttention* const fused = prefill_(layer, y.m, tokens); fused != nullptr) {
      return fused_prefill_attention(*fused, layer, layer_offsets_[index], input,
                                     run.inputs.sequences, y.m, tokens, y.data, y.stride,
                                     memory_.workspace(), run.stream);
    }
    return prefill_attention(layer, layer_offsets_[index], input, run.inputs.sequences, y.m, y.data,
                             y.stride, memory_.workspace(), run.stream);
  }
  const bool quantizes = launch.tokens != kNone;
  const TokenTiles tokens =
      quantizes ? memory_.tokens(launch.tokens, run.shape, run.index) : TokenTiles{};
  float* const values = launch.y_is_read ? y.data : nullptr;
  return decode_attention(layer, layer_offsets_[index], input, run.inputs.sequences, y.m,
                          run.shape.max_tokens, values, y.stride, quantizes ? &tokens : nullptr,
                          memory_.workspace(), run.stream);
}

std::string Launcher::kernel_name(size_t launch, int64_t m) const {
  struct Namer {
    const WeightTiles& tiles;
    const KernelChoice& choice;
    bool fused;  // attention of a prompt of m tokens
    int64_t m;
    std::string operator()(const EmbedLaunch&) const { return "cuda.embed"; }
    std::string operator()(const NormLaunch& op) const {
      return op.tokens == kNone ? "cuda.rms_norm" : "cuda.rms_norm_quantize";
    }
    std::string operator()(const QuantizeLaunch&) const { return "cuda.quantize"; }
    std::string operator()(const SiluMulLaunch& op) const {
      return op.tokens == kNone ? "cuda.silu_mul" : "cuda.silu_mul_quantize";
    }
    std::string operator()(const AddLaunch&) const { return "cuda.add"; }
    std::string operator()(const SplitLaunch&) const { return "cuda.split_halves"; }
    std::string operator()(const QuantizedLinearLaunch& op) const {
      return std::string(linear_kernel_name(choice(linear_problem(tiles, op.activation_bits, m))));
    }
    std::string operator()(const FloatLinearLaunch&) const { return "cuda.float_linear"; }
    std::string operator()(const RotaryLaunch&) const { return "cuda.rope"; }
    std::string operator()(const HadamardLaunch& op) const {
      return op.tokens == kNone ? "cuda.hadamard" : "cuda.hadamard_quantize";
    }
    std::string operator()(const AttentionLaunch&) const {
      if (m == 1) return "cuda.attention_decode";
      return fused ? "cuda.attention_cudnn" : "cuda.attention_prefill";
    }
  };
  const LaunchOperation& operation = list_.launches[launch].operation;
  const auto* const attention = std::get_if<AttentionLaunch>(&operation);
  const bool fused =
      attention != nullptr && m > 1 &&
      prefill_(attention_layer(program_, *attention, weights_[launch]), m, m) != nullptr;
  return std::visit(Namer{weights_[launch].tiles, choice_, fused, m}, operation);
}

}  // namespace abq::runtime::cuda
