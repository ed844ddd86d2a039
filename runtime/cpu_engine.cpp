#include "runtime/cpu_engine.h"

#include <algorithm>
#include <set>

#include "quant/gemm_variants.h"
#include "runtime/cpu_session.h"
#include "support/cpu_features.h"

namespace abq::runtime {
namespace {

// Blobs that a step's factory copies into a layout of its own; float matrices are used where they
// lie.
std::vector<uint32_t> repacked_blobs(const proto::Step& step) {
  if (!step.has_bit_linear()) return {};
  const proto::QuantizedWeights& weights = step.bit_linear().weights();
  return {weights.codes(), weights.scales(), weights.zeros()};
}

// Ok when this build has the kernel family that the step names and it can run the step.
Status check_kernel(const proto::Plan& plan, const proto::Step& step) {
  if (!step.has_bit_linear()) return {};
  const proto::Step::BitLinear& linear = step.bit_linear();
  ABQ_ASSIGN_OR_RETURN(const quant::GemmFamily family, quant::parse_gemm_family(linear.kernel()));
  const proto::Blob& codes = plan.blobs(static_cast<int>(linear.weights().codes()));
  return quant::can_run(family, {.spec = weight_spec(linear.weights()),
                                 .activation_bits = static_cast<int>(linear.activation_bits()),
                                 .n = codes.shape(0),
                                 .k = codes.shape(1)});
}

}  // namespace

CpuEngine::CpuEngine(std::shared_ptr<const LoadedPlan> plan, bool stream_weights)
    : plan_(std::move(plan)),
      device_name_(fmt::format("cpu-{}", cpu_isa_name(cpu_isa()))),
      stream_weights_(stream_weights) {}

Result<std::shared_ptr<const Engine>> CpuEngine::create(std::shared_ptr<const LoadedPlan> plan,
                                                        const EngineOptions& options) {
  std::shared_ptr<CpuEngine> engine(new CpuEngine(std::move(plan), options.stream_weights));
  ABQ_RETURN_IF_ERROR(engine->resolve_kernels());
  if (!options.stream_weights) ABQ_RETURN_IF_ERROR(engine->prepare_steps());
  engine->find_carried_buffers();
  return std::shared_ptr<const Engine>(std::move(engine));
}

Status CpuEngine::resolve_kernels() {
  std::string missing;
  factories_.assign(static_cast<size_t>(num_steps()), nullptr);
  for (int i = 0, next = 0; i < num_steps(); ++i) {
    const proto::Step& step = plan_->plan().steps(i);
    if (i == next) {
      const CpuStep found = find_cpu_step(plan_->plan(), i);
      if (found.factory == nullptr) {
        missing += fmt::format("\n  {}: operation {} has no CPU kernel", step.name(),
                               static_cast<int>(step.operation_case()));
      }
      factories_[static_cast<size_t>(i)] = found.factory;
      next = i + found.count;
    }
    if (const Status kernel = check_kernel(plan_->plan(), step); !kernel.ok())
      missing += fmt::format("\n  {}: {}", step.name(), kernel.message());
  }
  if (missing.empty()) return {};
  return unsupported("{}: steps that this build cannot run on the CPU:{}", plan_->path(), missing);
}

Status CpuEngine::prepare_steps() {
  for (int i = 0; i < num_steps(); ++i) {
    const proto::Step& step = plan_->plan().steps(i);
    steps_.emplace_back();
    const StepFactory factory = factories_[static_cast<size_t>(i)];
    if (factory == nullptr) continue;
    ABQ_ASSIGN_OR_RETURN(steps_.back(), factory(*plan_, step));
    drop_weight_pages(step);
  }
  return {};
}

void CpuEngine::drop_weight_pages(const proto::Step& step) const {
  for (const uint32_t blob : repacked_blobs(step))
    plan_->drop_blob_pages(blob);
}

void CpuEngine::find_carried_buffers() {
  const auto& steps = plan_->plan().steps();
  for (int i = 0; i < steps.size(); ++i) {
    if (steps[i].has_attention()) last_attention_step_ = i;
  }
  std::set<uint32_t> written;
  for (int i = 0; i <= last_attention_step_; ++i)
    written.insert(steps[i].output());
  std::set<uint32_t> carried;
  for (int i = last_attention_step_ + 1; i < steps.size(); ++i) {
    for (const uint32_t input : steps[i].inputs()) {
      if (written.contains(input)) carried.insert(input);
    }
    written.erase(steps[i].output());
  }
  carried_buffers_.assign(carried.begin(), carried.end());
  // Quantized tokens cannot be cut to their last row: such a plan computes every row to the end.
  const bool all_float = std::all_of(carried.begin(), carried.end(), [&](uint32_t buffer) {
    return plan_->plan().buffers(static_cast<int>(buffer)).kind() == proto::Buffer::FLOAT;
  });
  if (!all_float || last_attention_step_ < 0) last_attention_step_ = num_steps() - 1;
}

Status CpuEngine::run_step(int step, StepContext& context) const {
  if (factories_[static_cast<size_t>(step)] == nullptr) return {};  // done already
  if (!stream_weights_) {
    steps_[static_cast<size_t>(step)]->run(context);
    return {};
  }
  const proto::Step& description = plan_->plan().steps(step);
  ABQ_ASSIGN_OR_RETURN(const std::unique_ptr<PreparedStep> prepared,
                       factories_[static_cast<size_t>(step)](*plan_, description));
  prepared->run(context);
  drop_weight_pages(description);
  if (description.has_linear()) plan_->drop_blob_pages(description.linear().weight());
  return {};
}

Result<std::unique_ptr<Session>> CpuEngine::new_session(const SessionOptions& options) const {
  return CpuSession::create(shared_from_this(), options);
}

// One after the other: a token's weights are read from memory for each of them.
Status CpuEngine::decode(std::span<Session* const> sessions, std::span<const int32_t> tokens,
                         MatrixView<float> logits) const {
  ABQ_RETURN_IF_ERROR(check_batch(sessions, tokens, logits));
  for (size_t i = 0; i < sessions.size(); ++i) {
    const Result<std::vector<float>> row = sessions[i]->run(tokens.subspan(i, 1));
    if (!row.ok()) return row.status().with_context(fmt::format("session {}", i));
    std::copy(row->begin(), row->end(), logits.row(static_cast<int64_t>(i)));
  }
  return {};
}

int64_t CpuEngine::weight_bytes() const {
  int64_t total = 0;
  for (const auto& step : steps_)
    total += step != nullptr ? step->weight_bytes() : 0;
  return total;
}

std::string CpuEngine::kernel_name(int step, int64_t m) const {
  if (stream_weights_) return "streamed";
  while (factories_[static_cast<size_t>(step)] == nullptr)
    --step;
  return steps_[static_cast<size_t>(step)]->kernel_name(m);
}

}  // namespace abq::runtime
