#include <algorithm>

#include "runtime/plan_checks.h"

namespace abq::runtime {
namespace {

constexpr int kNever = -1;

// Which steps write and read a buffer; steps run in order.
struct Lifetime {
  int written = kNever;
  int last_read = kNever;

  int end() const { return std::max(written, last_read); }
};

Status check_buffers(const proto::Plan& plan) {
  for (int i = 0; i < plan.buffers_size(); ++i) {
    const proto::Buffer& buffer = plan.buffers(i);
    if (buffer.kind() != proto::Buffer::FLOAT && buffer.kind() != proto::Buffer::TOKENS)
      return corrupt("buffer {}: kind {} is unknown", i, static_cast<int>(buffer.kind()));
    if (buffer.columns() < 1 || buffer.columns() > kMaxDimension)
      return corrupt("buffer {}: {} columns, expected 1 to {}", i, buffer.columns(), kMaxDimension);
    const bool tokens = buffer.kind() == proto::Buffer::TOKENS;
    if (tokens ? buffer.bits() < 1 || buffer.bits() > 8 : buffer.bits() != 0) {
      return corrupt("buffer {}: {} bits, expected {}", i, buffer.bits(),
                     tokens ? "1 to 8 for quantized tokens" : "none for float32");
    }
    if (buffer.slot() >= static_cast<uint32_t>(plan.buffers_size())) {
      return corrupt("buffer {}: slot {}, expected less than the {} buffers", i, buffer.slot(),
                     plan.buffers_size());
    }
  }
  return {};
}

// Indices in range, written once, and before any read.
Status record_lifetimes(const proto::Step& step, int index, std::vector<Lifetime>* lifetimes) {
  for (const uint32_t input : step.inputs()) {
    if (input >= lifetimes->size())
      return corrupt("reads buffer {}, but there are {} buffers", input, lifetimes->size());
    Lifetime& lifetime = (*lifetimes)[input];
    if (lifetime.written == kNever) return corrupt("reads buffer {} before a step wrote it", input);
    lifetime.last_read = index;
  }
  if (step.output() >= lifetimes->size())
    return corrupt("writes buffer {}, but there are {} buffers", step.output(), lifetimes->size());
  Lifetime& lifetime = (*lifetimes)[step.output()];
  if (lifetime.written != kNever) {
    return corrupt("writes buffer {}, which step {} wrote already", step.output(),
                   lifetime.written);
  }
  lifetime.written = index;
  return {};
}

// Two buffers of one slot are of one kind and never live together; what a step reads stays live
// until the step is done.
Status check_slots(const proto::Plan& plan, const std::vector<Lifetime>& lifetimes) {
  std::vector<int> holder(lifetimes.size(), kNever);  // by slot: the buffer that had it last
  for (int i = 0; i < plan.steps_size(); ++i) {
    const int buffer = static_cast<int>(plan.steps(i).output());
    int& previous = holder[plan.buffers(buffer).slot()];
    if (previous != kNever) {
      if (plan.buffers(previous).kind() != plan.buffers(buffer).kind()) {
        return corrupt("buffers {} and {} are of different kinds but share slot {}", previous,
                       buffer, plan.buffers(buffer).slot());
      }
      const int end = lifetimes[static_cast<size_t>(previous)].end();
      if (end >= i) {
        return corrupt(
            "buffers {} and {} share slot {}, but {} is live until step {} and {} is "
            "written by step {}",
            previous, buffer, plan.buffers(buffer).slot(), previous, end, buffer, i);
      }
    }
    previous = buffer;
  }
  return {};
}

Status check_all_written(const std::vector<Lifetime>& lifetimes) {
  for (size_t i = 0; i < lifetimes.size(); ++i) {
    if (lifetimes[i].written == kNever) return corrupt("buffer {}: no step writes it", i);
  }
  return {};
}

// Attention keeps state per layer: each of the model's layers has one step, and no step shares it.
Status check_layers(const proto::Plan& plan) {
  std::vector<int> step_of_layer;
  for (int i = 0; i < plan.steps_size(); ++i) {
    const proto::Step& step = plan.steps(i);
    if (step.operation_case() != proto::Step::kAttention) continue;
    const uint32_t layer = step.attention().layer();
    if (static_cast<int64_t>(layer) >= plan.model().layers()) {
      return corrupt("step {} ({}): layer {}, expected less than the model's {}", i, step.name(),
                     layer, plan.model().layers());
    }
    // The size follows from the steps at hand, not from a number in the file.
    if (layer >= static_cast<uint32_t>(plan.steps_size()))
      return corrupt("step {} ({}): layer {} in a plan of {} steps", i, step.name(), layer,
                     plan.steps_size());
    step_of_layer.resize(std::max<size_t>(step_of_layer.size(), layer + 1), kNever);
    int& owner = step_of_layer[layer];
    if (owner != kNever)
      return corrupt("steps {} and {} both keep the state of layer {}", owner, i, layer);
    owner = i;
  }
  const int64_t missing =
      std::find(step_of_layer.begin(), step_of_layer.end(), kNever) - step_of_layer.begin();
  if (missing < plan.model().layers()) {
    return corrupt("layer {} of the model's {} has no attention step", missing,
                   plan.model().layers());
  }
  return {};
}

Status check_ends(const proto::Plan& plan) {
  if (plan.steps_size() == 0) return corrupt("plan has no steps");
  for (int i = 0; i < plan.steps_size(); ++i) {
    const bool embedding = plan.steps(i).operation_case() == proto::Step::kEmbedding;
    if (embedding != (i == 0)) {
      return corrupt("step {} ({}): {}", i, plan.steps(i).name(),
                     embedding ? "is an embedding; only the first step reads token ids"
                               : "comes first, but is not an embedding");
    }
  }
  const proto::Buffer& logits =
      plan.buffers(static_cast<int>(plan.steps(plan.steps_size() - 1).output()));
  if (logits.kind() != proto::Buffer::FLOAT || logits.columns() != plan.model().vocab_size()) {
    return corrupt("last step writes {} columns, expected float32 logits of the vocabulary's {}",
                   logits.columns(), plan.model().vocab_size());
  }
  return {};
}

Status check_step(const proto::Plan& plan, int index, std::vector<Lifetime>* lifetimes,
                  std::vector<BlobContents>* contents) {
  const proto::Step& step = plan.steps(index);
  if (step.operation_case() == proto::Step::OPERATION_NOT_SET)
    return unsupported("operation unknown to this build; use the abq that wrote it or a later one");
  ABQ_RETURN_IF_ERROR(record_lifetimes(step, index, lifetimes));
  return check_operation(plan, step, contents);
}

}  // namespace

Status check_steps(const proto::Plan& plan, std::vector<BlobContents>* contents) {
  contents->assign(static_cast<size_t>(plan.blobs_size()), {});
  ABQ_RETURN_IF_ERROR(check_buffers(plan));
  std::vector<Lifetime> lifetimes(static_cast<size_t>(plan.buffers_size()));
  for (int i = 0; i < plan.steps_size(); ++i) {
    const Status checked = check_step(plan, i, &lifetimes, contents);
    if (!checked.ok())
      return checked.with_context(fmt::format("step {} ({})", i, plan.steps(i).name()));
  }
  ABQ_RETURN_IF_ERROR(check_all_written(lifetimes));
  ABQ_RETURN_IF_ERROR(check_slots(plan, lifetimes));
  ABQ_RETURN_IF_ERROR(check_ends(plan));
  return check_layers(plan);
}

}  // namespace abq::runtime
