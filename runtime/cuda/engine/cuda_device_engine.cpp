#include "runtime/cuda/engine/cuda_device_engine.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "runtime/cuda/engine/tuner.h"

namespace abq::runtime::cuda {
namespace {

// Sequences of one batch: the activation memory is made for what is asked, within this.
constexpr int64_t kMaxBatch = 1024;
// Recorded decode steps that are kept; batches and lengths rarely vary that much.
constexpr size_t kMostGraphs = 32;
// A decode graph serves all positions below a power of two, from this one on.
constexpr int64_t kSmallestBound = 256;

int64_t position_bound(int64_t tokens) {
  return std::max(kSmallestBound,
                  static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(tokens))));
}

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

// Before anything is uploaded: all steps that no kernel takes, together.
Status CudaDeviceEngine::check_launches() const {
  std::string missing;
  const auto note = [&](const Launch& launch, const Status& status) {
    if (!status.ok()) missing += fmt::format("\n  {}: {}", launch.name, status.message());
  };
  for (const Launch& launch : list_.launches) {
    if (const auto* attention = std::get_if<AttentionLaunch>(&launch.operation)) {
      note(launch, check_attention(attention_layer(program_, *attention, {})));
    } else if (const auto* turn = std::get_if<HadamardLaunch>(&launch.operation)) {
      const Program::Step& step = program_.steps[static_cast<size_t>(turn->step)];
      const int64_t size = std::get<Program::Hadamard>(step.operation).size;
      if (size > kMaxHadamardSize) {
        note(launch, unsupported("a Hadamard transform of {} columns; the longest is {}", size,
                                 kMaxHadamardSize));
      }
    } else if (const auto* linear = std::get_if<QuantizedLinearLaunch>(&launch.operation)) {
      const Result<TilesPlan> plan = plan_tiles(weight_parts(program_, *linear), linear->gated);
      note(launch, plan.status());
      if (!plan.ok()) continue;
      const LinearProblem problem = linear_problem(plan->shape, linear->activation_bits, 1);
      note(launch, can_run(choose_kernel(problem), problem));
    }
  }
  if (missing.empty()) return {};
  return device_error("cuda: steps that this build cannot run on {}:{}", device_.product, missing);
}

Result<std::unique_ptr<CudaDeviceEngine>> CudaDeviceEngine::create(const Program& program) {
  std::unique_ptr<CudaDeviceEngine> engine(new CudaDeviceEngine(program));
  ABQ_RETURN_IF_ERROR(engine->open());
  return engine;
}

CudaDeviceEngine::~CudaDeviceEngine() {
  if (stream_ == nullptr) return;
  (void)cudaStreamSynchronize(stream_);
  graphs_.clear();
  launcher_.reset();
  prefill_ = {};  // its handle knows the stream
  (void)cudaStreamDestroy(stream_);
}

Status CudaDeviceEngine::open() {
  ABQ_ASSIGN_OR_RETURN(device_, compute::cuda::find_cuda_device());
  description_ = fmt::format("{}, driver {}", device_.product, device_.driver);
  ABQ_RETURN_IF_CUDA_ERROR(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
  ABQ_ASSIGN_OR_RETURN(list_, make_launch_list(program_));
  ABQ_RETURN_IF_ERROR(check_launches());
  // cuDNN loads while weights are repacked.
  const auto open_fused = [layers = attention_layers()] {
    return open_fused_attention(layers, DeviceSessionOptions().prefill_chunk);
  };
  ABQ_RETURN_IF_ERROR(prefill_.start(program_.prefill_attention, attention_layers(), open_fused));
  ABQ_ASSIGN_OR_RETURN(weights_, DeviceWeights::create(program_, list_, stream_));
  program_.release_step = nullptr;  // it may hold the file that the weights came from
  choice_ = KernelChoice(program_.tunings, device_.product);
  activations_.emplace(list_, weights_, program_, choice_, prefill_);
  launcher_.emplace(program_, list_, weights_, *activations_, choice_, prefill_);
  launcher_->set_fast_float_linears(program_.fast_float_linears);
  launch_of_step_.assign(program_.steps.size(), 0);
  for (size_t i = 0; i < list_.launches.size(); ++i) {
    for (const int step : list_.launches[i].steps)
      launch_of_step_[static_cast<size_t>(step)] = static_cast<int>(i);
  }
  return {};
}

std::vector<AttentionLayer> CudaDeviceEngine::attention_layers() const {
  std::vector<AttentionLayer> layers;
  for (const Launch& launch : list_.launches) {
    if (const auto* attention = std::get_if<AttentionLaunch>(&launch.operation))
      layers.push_back(attention_layer(program_, *attention, {}));
  }
  return layers;
}

std::string CudaDeviceEngine::take_notice() {
  const std::lock_guard lock(mutex_);
  return prefill_.take_notice();
}

std::string CudaDeviceEngine::kernel_name(int step, int64_t m) const {
  const std::lock_guard lock(mutex_);
  return launcher_->kernel_name(static_cast<size_t>(launch_of_step_[static_cast<size_t>(step)]), m);
}

Result<Tuning> CudaDeviceEngine::tune() {
  const std::lock_guard lock(mutex_);
  ABQ_RETURN_IF_ERROR(use_device());
  Tuning tuning;
  tuning.device = device_.product;
  ABQ_ASSIGN_OR_RETURN(tuning.choices, tune_linears(list_, weights_));
  return tuning;
}

Result<std::unique_ptr<DeviceSession>> CudaDeviceEngine::new_session(
    const DeviceSessionOptions& options) {
  ABQ_RETURN_IF_ERROR(use_device());
  const int64_t capacity = round_up(options.capacity, kCacheGranularity);
  const int64_t bytes = capacity * launcher_->cache_token_bytes();
  Result<DeviceArray<std::byte>> cache = DeviceArray<std::byte>::create(bytes);
  if (!cache.ok()) {
    return cache.status().with_context(fmt::format(
        "KV cache of {} tokens (ask for fewer, or compile with fewer -kv bits)", capacity));
  }
  return std::unique_ptr<DeviceSession>(std::make_unique<CudaDeviceSession>(
      *this, std::move(cache).value(), capacity, options.prefill_chunk));
}

// The current device is a matter of each thread.
Status CudaDeviceEngine::use_device() const {
  ABQ_RETURN_IF_CUDA_ERROR(cudaSetDevice(0), "device 0");
  return {};
}

Status CudaDeviceEngine::wait(std::string_view what) {
  ABQ_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream_), "{}", what);
  return {};
}

Status CudaDeviceEngine::reserve_transfers(int64_t m, int64_t logit_rows) {
  if (m > inputs_capacity_) {
    graphs_.clear();
    m = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(m)));
    const int64_t bytes = draws_offset(m) + m * static_cast<int64_t>(sizeof(TokenDraw));
    ABQ_ASSIGN_OR_RETURN(host_inputs_, PinnedArray<std::byte>::create(bytes));
    ABQ_ASSIGN_OR_RETURN(device_inputs_, DeviceArray<std::byte>::create(bytes));
    ABQ_ASSIGN_OR_RETURN(host_next_, PinnedArray<int32_t>::create(m));
    ABQ_ASSIGN_OR_RETURN(device_next_, DeviceArray<int32_t>::create(m));
    inputs_capacity_ = m;
  }
  if (const int64_t count = logit_rows * program_.vocab_size; count > host_logits_.size()) {
    graphs_.clear();
    ABQ_ASSIGN_OR_RETURN(host_logits_, PinnedArray<float>::create(count));
  }
  return {};
}

Status CudaDeviceEngine::reserve_activations(const RunShape& shape) {
  ABQ_ASSIGN_OR_RETURN(const bool moved, activations_->reserve(shape));
  if (moved) graphs_.clear();
  return {};
}

// States first, ids behind them, draws (of as many) at the end.
int64_t CudaDeviceEngine::ids_offset(int64_t sequences) {
  return sequences * static_cast<int64_t>(sizeof(SequenceState));
}
int64_t CudaDeviceEngine::draws_offset(int64_t sequences) {
  return round_up(ids_offset(sequences) + sequences * static_cast<int64_t>(sizeof(int32_t)),
                  static_cast<int64_t>(alignof(TokenDraw)));
}

RunInputs CudaDeviceEngine::device_inputs(int64_t sequences) const {
  const std::byte* const data = device_inputs_.data();
  return {reinterpret_cast<const int32_t*>(data + ids_offset(sequences)),
          reinterpret_cast<const SequenceState*>(data)};
}

Status CudaDeviceEngine::copy_inputs(int64_t bytes) {
  ABQ_RETURN_IF_CUDA_ERROR(
      cudaMemcpyAsync(device_inputs_.data(), host_inputs_.data(), static_cast<size_t>(bytes),
                      cudaMemcpyHostToDevice, stream_),
      "{} bytes of states and token ids", bytes);
  return {};
}

Rows CudaDeviceEngine::logits_rows(const RunShape& shape) const {
  return activations_->rows(list_.logits, shape, static_cast<int>(list_.launches.size()) - 1);
}

Status CudaDeviceEngine::prefill(CudaDeviceSession& session, std::span<const int32_t> tokens,
                                 int64_t rows, float* logits) {
  const std::lock_guard lock(mutex_);
  ABQ_RETURN_IF_ERROR(use_device());
  RunShape shape;
  shape.m = static_cast<int64_t>(tokens.size());
  shape.max_tokens = session.position_ + shape.m;
  // A list whose tail cannot be cut computes all rows.
  const bool cut = list_.first_row_wise < static_cast<int>(list_.launches.size());
  shape.rows = rows == 0 || cut ? rows : shape.m;
  ABQ_RETURN_IF_ERROR(reserve_transfers(shape.m, rows));
  ABQ_RETURN_IF_ERROR(reserve_activations(shape));
  const SequenceState state = session.state();
  std::memcpy(host_inputs_.data(), &state, sizeof(state));
  std::memcpy(host_inputs_.data() + ids_offset(1), tokens.data(), tokens.size_bytes());
  ABQ_RETURN_IF_ERROR(copy_inputs(ids_offset(1) + static_cast<int64_t>(tokens.size_bytes())));
  ABQ_RETURN_IF_ERROR(launcher_->run(shape, device_inputs(1), stream_));
  if (rows > 0) {
    const Rows result = logits_rows(shape);
    const size_t width = static_cast<size_t>(program_.vocab_size) * sizeof(float);
    ABQ_RETURN_IF_CUDA_ERROR(
        cudaMemcpy2DAsync(host_logits_.data(), width,
                          result.data + (result.m - rows) * result.stride,
                          static_cast<size_t>(result.stride) * sizeof(float), width,
                          static_cast<size_t>(rows), cudaMemcpyDeviceToHost, stream_),
        "logits [{}, {}]", rows, program_.vocab_size);
  }
  ABQ_RETURN_IF_ERROR(wait("prefill"));
  if (rows > 0) std::copy_n(host_logits_.data(), rows * program_.vocab_size, logits);
  session.position_ += shape.m;
  return {};
}

Status CudaDeviceSession::run(std::span<const int32_t> tokens, int64_t rows, float* logits) {
  if (static_cast<int64_t>(tokens.size()) > chunk_ ||
      position_ + static_cast<int64_t>(tokens.size()) > capacity_)
    return invalid_argument("{} tokens at position {}: chunks of {}, room for {}", tokens.size(),
                            position_, chunk_, capacity_);
  if (tokens.size() > 1) return engine_.prefill(*this, tokens, rows, logits);
  DeviceSession* const self = this;
  return engine_.decode({&self, 1}, tokens, {.logits = rows > 0 ? logits : nullptr});
}

Status CudaDeviceEngine::enqueue_decode(const GraphKey& key) {
  const RunShape shape = {key.m, key.m, key.max_tokens, true};
  const int64_t count = key.draws ? static_cast<int64_t>(sizeof(TokenDraw)) * key.m : 0;
  ABQ_RETURN_IF_ERROR(copy_inputs(draws_offset(key.m) + count));
  ABQ_RETURN_IF_ERROR(launcher_->run(shape, device_inputs(key.m), stream_));
  const Rows result = logits_rows(shape);
  if (key.next) {
    const auto* const draws =
        reinterpret_cast<const TokenDraw*>(device_inputs_.data() + draws_offset(key.m));
    ABQ_RETURN_IF_ERROR(key.draws ? draw_tokens(result, draws, device_next_.data(), stream_)
                                  : argmax(result, device_next_.data(), stream_));
    ABQ_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(host_next_.data(), device_next_.data(),
                                             static_cast<size_t>(key.m) * sizeof(int32_t),
                                             cudaMemcpyDeviceToHost, stream_),
                             "next tokens of {} sequences", key.m);
  }
  if (!key.logits) return {};
  const size_t width = static_cast<size_t>(program_.vocab_size) * sizeof(float);
  ABQ_RETURN_IF_CUDA_ERROR(
      cudaMemcpy2DAsync(host_logits_.data(), width, result.data,
                        static_cast<size_t>(result.stride) * sizeof(float), width,
                        static_cast<size_t>(key.m), cudaMemcpyDeviceToHost, stream_),
      "logits [{}, {}]", key.m, program_.vocab_size);
  return {};
}

Result<CudaDeviceEngine::Graph> CudaDeviceEngine::record(const GraphKey& key) {
  ABQ_RETURN_IF_CUDA_ERROR(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
                           "recording of a decode step");
  const Status enqueued = enqueue_decode(key);
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream_, &graph);
  cudaGraphExec_t executable = nullptr;
  cudaError_t made = ended;
  if (enqueued.ok() && ended == cudaSuccess) made = cudaGraphInstantiate(&executable, graph, 0);
  if (graph != nullptr) (void)cudaGraphDestroy(graph);
  ABQ_RETURN_IF_ERROR(enqueued);
  (void)cudaGetLastError();  // what a failed recording left behind
  ABQ_RETURN_IF_CUDA_ERROR(made, "recording of a decode step for {} sequences", key.m);
  return Graph(executable);
}

// The first step of its kind runs directly, so that what is made on first use is made outside a
// recording; the second one is recorded.
Status CudaDeviceEngine::run_decode(const GraphKey& key) {
  const auto found = graphs_.find(key);
  if (found == graphs_.end()) {
    if (graphs_.size() >= kMostGraphs) graphs_.clear();
    ABQ_RETURN_IF_ERROR(enqueue_decode(key));
    graphs_.emplace(key, nullptr);
    return wait("decode step");
  }
  if (found->second == nullptr) {
    ABQ_ASSIGN_OR_RETURN(found->second, record(key));
  }
  ABQ_RETURN_IF_CUDA_ERROR(cudaGraphLaunch(found->second.get(), stream_),
                           "decode step of {} sequences", key.m);
  return wait("decode step");
}

Status CudaDeviceEngine::decode(std::span<DeviceSession* const> sessions,
                                std::span<const int32_t> tokens, const DecodeResults& results) {
  const int64_t m = static_cast<int64_t>(sessions.size());
  if (m < 1 || m > kMaxBatch || tokens.size() != sessions.size())
    return invalid_argument("batch of {} sequences and {} tokens; expected 1 to {} of each", m,
                            tokens.size(), kMaxBatch);
  if (!results.draws.empty() && results.draws.size() != sessions.size())
    return invalid_argument("{} draws for {} sequences", results.draws.size(), m);
  const std::lock_guard lock(mutex_);
  ABQ_RETURN_IF_ERROR(use_device());
  GraphKey key;
  key.m = m;
  key.logits = results.logits != nullptr;
  key.next = results.next != nullptr;
  key.draws = key.next && !results.draws.empty();
  ABQ_RETURN_IF_ERROR(reserve_transfers(m, key.logits ? m : 0));
  for (int64_t i = 0; i < m; ++i) {
    auto& session = static_cast<CudaDeviceSession&>(*sessions[static_cast<size_t>(i)]);
    if (session.position_ >= session.capacity_)
      return invalid_argument("sequence {}: its cache of {} tokens is full", i, session.capacity_);
    const SequenceState state = session.state();
    std::memcpy(host_inputs_.data() + i * static_cast<int64_t>(sizeof(state)), &state,
                sizeof(state));
    key.max_tokens = std::max(key.max_tokens, position_bound(state.position + 1));
  }
  std::memcpy(host_inputs_.data() + ids_offset(m), tokens.data(), tokens.size_bytes());
  if (key.draws)
    std::memcpy(host_inputs_.data() + draws_offset(m), results.draws.data(),
                results.draws.size_bytes());
  ABQ_RETURN_IF_ERROR(reserve_activations({m, m, key.max_tokens, true}));
  ABQ_RETURN_IF_ERROR(run_decode(key));
  if (key.logits) std::copy_n(host_logits_.data(), m * program_.vocab_size, results.logits);
  if (key.next) std::copy_n(host_next_.data(), m, results.next);
  for (DeviceSession* const session : sessions)
    ++static_cast<CudaDeviceSession&>(*session).position_;
  return {};
}

}  // namespace abq::runtime::cuda
