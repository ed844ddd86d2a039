#include "runtime/cpu_session.h"

#include <algorithm>

#include "runtime/session_checks.h"

namespace abq::runtime {
namespace {

std::vector<KvCache> make_caches(const proto::Plan& plan, int64_t capacity) {
  std::vector<KvCache> caches;
  for (const proto::Step& step : plan.steps()) {
    if (!step.has_attention()) continue;
    const proto::Step::Attention& attention = step.attention();
    const auto store = [&] {
      return KvStore(static_cast<int>(attention.kv_bits()), static_cast<int>(attention.kv_heads()),
                     static_cast<int>(attention.head_dim()), capacity);
    };
    caches.push_back({store(), store()});
  }
  return caches;
}

}  // namespace

Result<std::unique_ptr<Session>> CpuSession::create(std::shared_ptr<const CpuEngine> engine,
                                                    const SessionOptions& options) {
  ABQ_ASSIGN_OR_RETURN(const int64_t capacity, session_capacity(engine->plan().plan(), options));
  return std::unique_ptr<Session>(
      new CpuSession(std::move(engine), capacity, options.prefill_chunk));
}

CpuSession::CpuSession(std::shared_ptr<const CpuEngine> engine, int64_t capacity, int64_t chunk)
    : engine_(std::move(engine)),
      capacity_(capacity),
      chunk_(chunk),
      buffers_(engine_->plan().plan()),
      caches_(make_caches(engine_->plan().plan(), capacity)) {}

StepContext CpuSession::context_for(std::span<const int32_t> chunk) {
  StepContext context;
  context.m = static_cast<int64_t>(chunk.size());
  context.position = position_;
  context.tokens = chunk;
  context.buffers = &buffers_;
  context.caches = &caches_;
  context.attention = &attention_;
  return context;
}

Status CpuSession::run_steps(int begin, int end, StepContext& context) {
  for (int step = begin; step < end; ++step) {
    ABQ_RETURN_IF_ERROR(engine_->run_step(step, context));
  }
  return {};
}

MatrixView<const float> CpuSession::logits(int64_t m) {
  const auto& steps = engine_->plan().plan().steps();
  return buffers_.floats(steps[steps.size() - 1].output(), m);
}

Result<std::vector<float>> CpuSession::run(std::span<const int32_t> tokens) {
  ABQ_RETURN_IF_ERROR(check_tokens(tokens, vocab_size(), position_, capacity_));
  const int split = engine_->last_attention_step() + 1;
  while (!tokens.empty()) {
    const size_t count = std::min(tokens.size(), static_cast<size_t>(chunk_));
    StepContext context = context_for(tokens.first(count));
    const bool last_chunk = count == tokens.size();
    // Only the last token's logits are wanted: earlier chunks stop once their keys and values are
    // cached, and the last one goes on with its last row.
    ABQ_RETURN_IF_ERROR(run_steps(0, split, context));
    position_ += static_cast<int64_t>(count);
    tokens = tokens.subspan(count);
    if (!last_chunk) continue;
    if (split < engine_->num_steps()) {
      for (const uint32_t buffer : engine_->carried_buffers()) {
        buffers_.keep_last_row(buffer, context.m);
      }
      context.m = 1;
    }
    ABQ_RETURN_IF_ERROR(run_steps(split, engine_->num_steps(), context));
    const MatrixView<const float> rows = logits(context.m);
    const float* row = rows.row(context.m - 1);
    return std::vector<float>(row, row + rows.cols);
  }
  return internal_error("no chunk was run");
}

Status CpuSession::run_all(std::span<const int32_t> tokens, const LogitsConsumer& consume) {
  ABQ_RETURN_IF_ERROR(check_tokens(tokens, vocab_size(), position_, capacity_));
  const int64_t chunk = logits_chunk(vocab_size(), chunk_);
  while (!tokens.empty()) {
    const size_t count = std::min(tokens.size(), static_cast<size_t>(chunk));
    StepContext context = context_for(tokens.first(count));
    ABQ_RETURN_IF_ERROR(run_steps(0, engine_->num_steps(), context));
    consume(position_, logits(context.m));
    position_ += static_cast<int64_t>(count);
    tokens = tokens.subspan(count);
  }
  return {};
}

int64_t CpuSession::memory_bytes() const {
  int64_t total = buffers_.memory_bytes();
  for (const KvCache& cache : caches_)
    total += cache.memory_bytes();
  return total;
}

}  // namespace abq::runtime
