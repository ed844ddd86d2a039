#include "runtime/cuda/engine/activation_memory.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "runtime/cuda/token_memory.h"

namespace abq::runtime::cuda {
namespace {

constexpr int64_t kFloat = sizeof(float);

}  // namespace

AttentionLayer attention_layer(const Program& program, const AttentionLaunch& launch,
                               const LaunchWeights& weights) {
  const auto& attention =
      std::get<Program::Attention>(program.steps[static_cast<size_t>(launch.step)].operation);
  AttentionLayer layer;
  layer.heads = attention.shape.heads;
  layer.kv_heads = attention.shape.kv_heads;
  layer.head_dim = attention.shape.head_dim;
  layer.window = attention.shape.window;
  layer.query_bits = attention.query_bits;
  layer.kv_bits = attention.kv_bits;
  layer.query_frequencies = weights.query_frequencies;
  layer.key_frequencies = weights.key_frequencies;
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(layer.head_dim)));
  if (launch.query_transform != kNone) layer.query_transform = scale;
  if (launch.key_transform != kNone) layer.key_transform = scale;
  return layer;
}

LinearProblem linear_problem(const WeightTiles& tiles, int activation_bits, int64_t m) {
  LinearProblem problem;
  problem.planes = tiles.planes;
  problem.encoding = tiles.encoding;
  problem.group_size = tiles.group_size;
  problem.activation_bits = activation_bits;
  problem.m = m;
  problem.n = tiles.n;
  problem.k = tiles.k;
  return problem;
}

ActivationMemory::ActivationMemory(const LaunchList& list, const DeviceWeights& weights,
                                   const Program& program, const KernelChoice& choice,
                                   PrefillChoice& prefill)
    : list_(list),
      weights_(weights),
      program_(program),
      choice_(choice),
      prefill_(prefill),
      readers_(list.storages.size()) {
  for (size_t i = 0; i < list.launches.size(); ++i) {
    const auto* linear = std::get_if<QuantizedLinearLaunch>(&list.launches[i].operation);
    if (linear != nullptr) readers_[static_cast<size_t>(linear->input)].push_back(i);
  }
}

int64_t ActivationMemory::storage_rows(const Storage& storage, const RunShape& shape) const {
  return in_tail(storage.first) ? shape.rows : shape.m;
}

int64_t ActivationMemory::storage_bytes(const Storage& storage, int64_t rows) const {
  switch (storage.kind) {
    case Storage::Kind::kTokens:
      return token_memory_bytes(rows, storage.columns, storage.bits);
    case Storage::Kind::kHalves:
      return half_memory_bytes(rows, storage.columns);
    case Storage::Kind::kFloat:
      break;
  }
  return rows * storage.columns * kFloat;
}

int64_t ActivationMemory::attention_bytes(const AttentionLayer& layer,
                                          const RunShape& shape) const {
  if (shape.decode) return decode_workspace_bytes(layer, shape.m, shape.max_tokens);
  const FusedAttention* const fused = prefill_(layer, shape.m, shape.max_tokens);
  if (fused != nullptr) return fused_workspace_bytes(*fused, layer, shape.m, shape.max_tokens);
  return prefill_workspace_bytes(layer, shape.m);
}

int64_t ActivationMemory::workspace_bytes(const RunShape& shape) const {
  int64_t most = 0;
  for (size_t i = 0; i < list_.launches.size(); ++i) {
    const LaunchOperation& operation = list_.launches[i].operation;
    const int64_t m = in_tail(static_cast<int>(i)) ? shape.rows : shape.m;
    const LaunchWeights& weights = weights_[i];
    if (std::holds_alternative<FloatLinearLaunch>(operation)) {
      most = std::max(most, FloatLinear::workspace_bytes(m, weights.matrix.cols));
    } else if (const auto* attention = std::get_if<AttentionLaunch>(&operation)) {
      most = std::max(most, attention_bytes(attention_layer(program_, *attention, weights), shape));
    }
  }
  return most;
}

Result<bool> ActivationMemory::reserve(const RunShape& shape) {
  const int64_t workspace = workspace_bytes(shape);
  if (shape.m <= reserved_.m && shape.rows <= reserved_.rows && workspace <= workspace_size_)
    return false;
  RunShape wanted = reserved_;
  // In powers of two, so that prompts of all lengths end up with the same memory.
  const auto grown = [](int64_t have, int64_t asked) {
    return asked <= have ? have : static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(asked)));
  };
  wanted.m = grown(wanted.m, shape.m);
  wanted.rows = grown(wanted.rows, shape.rows);
  std::vector<int64_t> sizes;
  for (const Storage& storage : list_.storages)
    sizes.push_back(storage_bytes(storage, std::max<int64_t>(storage_rows(storage, wanted), 1)));
  MemoryPlan plan = plan_memory(list_.storages, sizes);
  const int64_t workspace_size = std::max(workspace, workspace_size_);
  const int64_t offset = aligned_bytes(plan.bytes);
  if (offset + workspace_size > memory_.bytes()) {
    memory_ = {};  // the old memory first: the two need not fit side by side
    reserved_ = {};
    workspace_size_ = 0;
    Result<DeviceArray<std::byte>> memory = DeviceArray<std::byte>::create(offset + workspace_size);
    if (!memory.ok()) {
      return memory.status().with_context(fmt::format(
          "activations of {} tokens (ask for shorter chunks or a smaller batch)", wanted.m));
    }
    memory_ = std::move(memory).value();
  }
  reserved_ = wanted;
  plan_ = std::move(plan);
  workspace_offset_ = offset;
  workspace_size_ = workspace_size;
  return true;
}

std::byte* ActivationMemory::at(int storage) const {
  return const_cast<std::byte*>(memory_.data()) + plan_.offsets[static_cast<size_t>(storage)];
}

Rows ActivationMemory::rows(const Place& place, const RunShape& shape, int launch) const {
  if (!place.present()) return {};
  const Storage& storage = list_.storages[static_cast<size_t>(place.storage)];
  Rows rows;
  rows.data = reinterpret_cast<float*>(at(place.storage)) + place.column;
  rows.stride = storage.columns;
  rows.columns = static_cast<int>(place.columns);
  rows.m = static_cast<int>(in_tail(launch) ? shape.rows : shape.m);
  if (in_tail(launch) && !in_tail(storage.first)) rows.data += (shape.m - shape.rows) * rows.stride;
  return rows;
}

ActivationMemory::Forms ActivationMemory::forms(int storage, int64_t m) const {
  Forms forms;
  for (const size_t reader : readers_[static_cast<size_t>(storage)]) {
    const WeightTiles& tiles = weights_[reader].tiles;
    const int bits = list_.storages[static_cast<size_t>(storage)].bits;
    const LinearKernel kernel = choice_(linear_problem(tiles, bits, m));
    (token_form(kernel) == TokenForm::kPlanes ? forms.planes : forms.codes) = true;
    forms.group_sums |= tiles.group_size != 0;
  }
  return forms;
}

TokenTiles ActivationMemory::tokens(int storage, const RunShape& shape, int launch) const {
  const int64_t m = in_tail(launch) ? shape.rows : shape.m;
  const Storage& s = list_.storages[static_cast<size_t>(storage)];
  TokenTiles tokens = token_view(m, s.columns, s.bits, at(storage));
  const Forms wanted = forms(storage, m);
  if (!wanted.planes) tokens.planes = nullptr;
  if (!wanted.codes) tokens.codes = nullptr;
  if (!wanted.group_sums) tokens.group_sums = nullptr;
  return tokens;
}

HalfTokens ActivationMemory::halves(int storage, const RunShape& shape, int launch) const {
  const Storage& s = list_.storages[static_cast<size_t>(storage)];
  const int64_t m = in_tail(launch) ? shape.rows : shape.m;
  return half_view(m, s.columns, at(storage));
}

Workspace ActivationMemory::workspace() const {
  return {const_cast<std::byte*>(memory_.data()) + workspace_offset_, workspace_size_};
}

}  // namespace abq::runtime::cuda
