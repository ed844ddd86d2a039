#include "runtime/cuda/engine/device_weights.h"

#include <algorithm>
#include <bit>

#include "runtime/cuda/engine/random_fill.h"
#include "support/float16.h"

namespace abq::runtime::cuda {
namespace {

constexpr int64_t kAlignment = 256;
// Random float weights are uniform in +-0.05: activations of a random model stay finite.
constexpr float kRandomRange = 0.05f;

int64_t matrix_bytes(const compute::FloatMatrix& matrix) {
  return matrix.rows * matrix.cols * compute::float_type_bytes(matrix.type);
}

std::vector<float> to_floats(const compute::FloatMatrix& matrix) {
  const size_t count = static_cast<size_t>(matrix.rows * matrix.cols);
  if (matrix.data == nullptr) return std::vector<float>(count, 1.0f);
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    switch (matrix.type) {
      case compute::FloatType::kF32:
        values[i] = static_cast<const float*>(matrix.data)[i];
        break;
      case compute::FloatType::kF16:
        values[i] = f16_to_float(static_cast<const uint16_t*>(matrix.data)[i]);
        break;
      case compute::FloatType::kBF16:
        values[i] = bf16_to_float(static_cast<const uint16_t*>(matrix.data)[i]);
        break;
    }
  }
  return values;
}

}  // namespace

std::vector<const StoredWeights*> weight_parts(const Program& program,
                                               const QuantizedLinearLaunch& launch) {
  std::vector<const StoredWeights*> parts;
  for (const int part : launch.parts) {
    const Program::Operation& operation = program.steps[static_cast<size_t>(part)].operation;
    parts.push_back(&std::get<Program::BitLinear>(operation).weights);
  }
  return parts;
}

// Two rounds over the launches: the first only adds up sizes, the second fills the memory.
class WeightUpload {
 public:
  WeightUpload(const Program& program, const LaunchList& list, cudaStream_t stream)
      : program_(program), list_(list), stream_(stream) {}

  Result<DeviceWeights> run() {
    ABQ_RETURN_IF_ERROR(visit_launches());
    Result<DeviceArray<std::byte>> memory = DeviceArray<std::byte>::create(next_);
    if (!memory.ok())
      return memory.status().with_context("weights (compile with fewer bits, or use --device cpu)");
    weights_.memory_ = std::move(memory).value();
    weights_.launches_.resize(list_.launches.size());
    filling_ = true;
    next_ = 0;
    matrices_.clear();
    transforms_.clear();
    ABQ_RETURN_IF_ERROR(visit_launches());
    ABQ_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream_), "upload of weights");
    return std::move(weights_);
  }

 private:
  Status visit_launches() {
    for (size_t i = 0; i < list_.launches.size(); ++i) {
      launch_ = i;
      const Launch& launch = list_.launches[i];
      const Status status = std::visit([&](const auto& op) { return add(op); }, launch.operation);
      if (!status.ok()) return status.with_context(launch.name);
      if (!filling_ || !program_.release_step) continue;
      for (const int step : launch.steps)
        program_.release_step(step);
    }
    return {};
  }

  LaunchWeights& weights() { return weights_.launches_[launch_]; }
  template <class Operation>
  const Operation& operation(int step) const {
    return std::get<Operation>(program_.steps[static_cast<size_t>(step)].operation);
  }

  // Device memory for `bytes`, null while only counting.
  std::byte* reserve(int64_t bytes) {
    const int64_t offset = next_;
    next_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return filling_ ? weights_.memory_.data() + offset : nullptr;
  }

  Status copy(const void* from, int64_t bytes, std::byte* to) {
    // From pageable memory this returns once the bytes are staged: they may go away then.
    ABQ_RETURN_IF_CUDA_ERROR(
        cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream_),
        "upload of {} bytes", bytes);
    return {};
  }

  template <class T>
  Status add_vector(std::span<const T> values, const T** out) {
    const int64_t bytes = static_cast<int64_t>(values.size_bytes());
    std::byte* const memory = reserve(bytes);
    if (!filling_) return {};
    *out = reinterpret_cast<const T*>(memory);
    ABQ_RETURN_IF_ERROR(copy(values.data(), bytes, memory));
    ABQ_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream_), "upload of a vector");
    return {};
  }

  cudaError_t fill_random(const compute::FloatMatrix& matrix, void* memory) const {
    const auto fill = matrix.type == compute::FloatType::kF32   ? fill_random_f32
                      : matrix.type == compute::FloatType::kF16 ? fill_random_f16
                                                                : fill_random_bf16;
    return fill(memory, matrix.rows * matrix.cols, static_cast<uint32_t>(launch_), kRandomRange,
                stream_);
  }

  // Rows of all parts, one after the other. A matrix that two launches read (tied embeddings) is
  // stored once.
  Status add_matrix(const std::vector<compute::FloatMatrix>& parts) {
    compute::FloatMatrix whole = parts.front();
    whole.rows = 0;
    for (const compute::FloatMatrix& part : parts)
      whole.rows += part.rows;
    const void* const key = parts.size() == 1 ? parts.front().data : nullptr;
    if (const auto found = matrices_.find(key); key != nullptr && found != matrices_.end()) {
      if (filling_) weights().matrix = found->second;
      return {};
    }
    std::byte* memory = reserve(matrix_bytes(whole));
    whole.data = memory;
    if (key != nullptr) matrices_[key] = whole;
    if (!filling_) return {};
    weights().matrix = whole;
    for (const compute::FloatMatrix& part : parts) {
      if (part.data == nullptr) {
        ABQ_RETURN_IF_CUDA_ERROR(fill_random(part, memory), "random weights [{}, {}]", part.rows,
                                 part.cols);
      } else {
        ABQ_RETURN_IF_ERROR(copy(part.data, matrix_bytes(part), memory));
      }
      memory += matrix_bytes(part);
    }
    return {};
  }

  Status add(const EmbedLaunch& launch) {
    return add_matrix({operation<Program::Embedding>(launch.step).table});
  }
  Status add(const NormLaunch& launch) {
    return add_vector<float>(to_floats(operation<Program::RmsNorm>(launch.step).weight),
                             filling_ ? &weights().vector : nullptr);
  }
  Status add(const RotaryLaunch& launch) {
    return add_vector<float>(operation<Program::Rope>(launch.step).frequencies,
                             filling_ ? &weights().vector : nullptr);
  }
  // The signs of a size are stored once for all its launches.
  Status add(const HadamardLaunch& launch) {
    const int64_t size = operation<Program::Hadamard>(launch.step).size;
    const compute::HadamardFactors& factors = compute::hadamard_factors(size);
    const auto [found, is_new] = transforms_.try_emplace(size);
    if (is_new) {
      HadamardMatrix& matrix = found->second;
      matrix.order = static_cast<int>(factors.order);
      matrix.length = static_cast<int>(factors.length);
      matrix.scale = factors.scale();
      if (factors.order > 1) {
        ABQ_RETURN_IF_ERROR(
            add_vector<float>(hadamard_signs(factors), filling_ ? &matrix.signs : nullptr));
        ABQ_RETURN_IF_ERROR(add_vector<uint32_t>(packed_hadamard_signs(factors),
                                                 filling_ ? &matrix.packed : nullptr));
      }
    }
    if (filling_) weights().hadamard = found->second;
    return {};
  }
  Status add(const AttentionLaunch& launch) {
    if (launch.query_rope != kNone) {
      ABQ_RETURN_IF_ERROR(add_vector<float>(operation<Program::Rope>(launch.query_rope).frequencies,
                                            filling_ ? &weights().query_frequencies : nullptr));
    }
    if (launch.key_rope == kNone) return {};
    return add_vector<float>(operation<Program::Rope>(launch.key_rope).frequencies,
                             filling_ ? &weights().key_frequencies : nullptr);
  }
  Status add(const FloatLinearLaunch& launch) {
    std::vector<compute::FloatMatrix> parts;
    for (const int part : launch.parts)
      parts.push_back(operation<Program::Linear>(part).weight);
    return add_matrix(parts);
  }
  Status add(const QuantizedLinearLaunch& launch) {
    const std::vector<const StoredWeights*> parts = weight_parts(program_, launch);
    ABQ_ASSIGN_OR_RETURN(const TilesPlan plan, plan_tiles(parts, launch.gated));
    std::byte* const memory = reserve(plan.bytes);
    if (!filling_) return {};
    ABQ_ASSIGN_OR_RETURN(weights().tiles, fill_tiles(plan, parts, memory, stream_));
    return {};
  }
  template <class Weightless>
  Status add(const Weightless&) {
    return {};
  }

  const Program& program_;
  const LaunchList& list_;
  cudaStream_t stream_;
  DeviceWeights weights_;
  std::map<const void*, compute::FloatMatrix> matrices_;
  std::map<int64_t, HadamardMatrix> transforms_;  // by size
  bool filling_ = false;
  int64_t next_ = 0;
  size_t launch_ = 0;
};

Result<DeviceWeights> DeviceWeights::create(const Program& program, const LaunchList& list,
                                            cudaStream_t stream) {
  return WeightUpload(program, list, stream).run();
}

}  // namespace abq::runtime::cuda
