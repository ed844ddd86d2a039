#include "passes/distillation/model_student.h"

#include <algorithm>
#include <numeric>

#include "passes/autodiff/ops.h"
#include "passes/layers.h"

namespace abq::passes {
namespace {

using autodiff::BlockEvaluator;
using autodiff::Tape;
using autodiff::Var;
using compute::Tensor;

// The head's logits, their targets, and the gradients of both steps behind them.
constexpr int64_t kLogitCopies = 4;

const ir::Region* find_head(const ir::Module& module) {
  for (const ir::Region& region : module.regions)
    if (region.kind == ir::RegionKind::kHead) return &region;
  return nullptr;
}

int64_t logit_bytes(const ir::Region& head, int64_t tokens) {
  const int64_t vocabulary = head.type(head.results.at(0)).shape.back();
  return kLogitCopies * tokens * vocabulary * static_cast<int64_t>(sizeof(float));
}

// Weights that the nodes of a region read, as float32.
int64_t weight_bytes(const ir::Region& region) {
  int64_t elements = 0;
  for (const ir::Node& node : region.nodes) {
    if (node.op != ir::Op::kWeight) continue;
    const std::vector<int64_t>& shape = region.type(node.result).shape;
    elements += std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  }
  return elements * static_cast<int64_t>(sizeof(float));
}

}  // namespace

int64_t ModelStudent::least_bytes(const ir::Module& module, const PassContext& context,
                                  int64_t tokens) {
  int64_t weights = 0;
  int64_t largest_block = 0;
  int64_t states = 0;
  for (const ir::Region& region : module.regions) {
    if (region.kind == ir::RegionKind::kEmbed) continue;
    weights += weight_bytes(region);
    if (region.kind != ir::RegionKind::kBlock) continue;
    largest_block = std::max(largest_block, weight_bytes(region));
    states += tokens * region.type(region.arguments.at(0)).shape.back() *
              static_cast<int64_t>(sizeof(float));
  }
  // Steps, zero points, ratios, and a gradient and two moments of each ratio.
  constexpr int64_t kPerStep = 6;
  int64_t steps = 0;
  for (const auto& [name, layer] : context.rounded_layers)
    steps += kPerStep * std::ssize(layer.weights.scales) * static_cast<int64_t>(sizeof(float));
  const ir::Region* head = find_head(module);
  const int64_t logits = head != nullptr ? logit_bytes(*head, tokens) : 0;
  // A block's weights once more as they are multiplied, and their gradients; float ones beside the
  // codes while the block is made.
  return weights + steps + states + std::max(2 * largest_block, logits);
}

Result<std::unique_ptr<ModelStudent>> ModelStudent::create(compute::TensorDevice& device,
                                                           const ir::Module& module,
                                                           const PassContext& context) {
  const ir::Region* head = find_head(module);
  if (head == nullptr) return invalid_argument("module {}: has no head", module.name);
  std::unique_ptr<ModelStudent> model(new ModelStudent(device));
  for (const ir::Region& block : module.regions) {
    if (block.kind != ir::RegionKind::kBlock) continue;
    ABQ_ASSIGN_OR_RETURN(BlockEvaluator made, BlockEvaluator::create(device, module, block));
    auto evaluator = std::make_unique<BlockEvaluator>(std::move(made));
    ABQ_ASSIGN_OR_RETURN(RoundingStudent student,
                         RoundingStudent::create(*evaluator, module, context, {.codes = false}));
    student.release_float_weights(*evaluator);
    model->evaluators_.push_back(std::move(evaluator));
    model->students_.push_back(std::move(student));
  }
  ABQ_RETURN_IF_ERROR(model->create_head(module, *head));
  for (RoundingStudent& student : model->students_)
    for (LearnedParameter& parameter : student.parameters())
      model->parameters_.push_back(&parameter);
  if (model->head_.norm) model->parameters_.push_back(&model->head_.parameter);
  ABQ_RETURN_IF_ERROR(device.status());
  return model;
}

Status ModelStudent::create_head(const ir::Module& module, const ir::Region& region) {
  ABQ_ASSIGN_OR_RETURN(head_.evaluator, BlockEvaluator::create(device_, module, region));
  for (const ir::Node& node : region.nodes)
    if (node.op == ir::Op::kRmsNorm) head_.norm = node.operands[1];
  if (head_.norm)
    head_.parameter = {"norm " + module.weight_name(region, *head_.norm),
                       LearnedParameter::Kind::kNorm,
                       device_.copy(head_.evaluator->weight(*head_.norm))};
  return {};
}

int64_t ModelStudent::learning_bytes(int64_t windows, int64_t context) const {
  int64_t working = logit_bytes(head_.evaluator->block(), windows * context);
  int64_t kept = 0;
  for (const auto& evaluator : evaluators_) {
    working = std::max(working, evaluator->learning_bytes(windows, context));
    const ir::Block& block = evaluator->block();
    kept += windows * context * block.type(block.arguments.at(0)).shape.back() *
            static_cast<int64_t>(sizeof(float));
  }
  constexpr int64_t kOptimizerCopies = 3;  // a gradient and two moments
  for (const LearnedParameter* parameter : parameters_)
    kept += kOptimizerCopies * parameter->value.bytes();
  return working + kept;
}

std::vector<Tensor> ModelStudent::forward(const Tensor& x, int64_t context) const {
  std::vector<Tensor> states = {x};
  for (const RoundingStudent& student : students_) {
    Tape tape(device_);
    states.push_back(student.run(tape, states.back(), context, false).output.hidden->value);
  }
  return states;
}

Var ModelStudent::logits(Tape& tape, const Var& hidden, const Var& norm) const {
  autodiff::BlockRun run;
  run.context = hidden->value.rows();
  run.weight = [&](ir::ValueId weight) { return weight == head_.norm ? norm : nullptr; };
  return head_.evaluator->run(tape, hidden, run).hidden;
}

Var ModelStudent::loss(Tape& tape, const Var& hidden, const Var& norm,
                       const Tensor& float_hidden) const {
  Tensor target;
  {
    Tape teacher(device_);
    target = logits(teacher, teacher.constant(float_hidden), nullptr)->value;
  }
  return autodiff::logit_divergence(tape, logits(tape, hidden, norm), target);
}

Tensor ModelStudent::divergence(const Tensor& x, const Tensor& float_hidden,
                                int64_t context) const {
  const Tensor hidden = forward(x, context).back();
  Tape tape(device_);
  const Var norm = head_.norm ? tape.constant(head_.parameter.value) : nullptr;
  return loss(tape, tape.constant(hidden), norm, float_hidden)->value;
}

Tensor ModelStudent::differentiate(const Tensor& x, const Tensor& float_hidden, int64_t context,
                                   float share, std::span<Tensor> gradients) const {
  ABQ_CHECK(gradients.size() == parameters_.size());
  std::vector<Tensor> states = forward(x, context);
  Tensor value;
  Tensor gradient;  // of what the block at hand gives
  size_t first = parameters_.size();
  {
    Tape tape(device_);
    const Var hidden = tape.parameter(states.back());
    const Var norm = head_.norm ? tape.parameter(head_.parameter.value) : nullptr;
    const Var divergence = loss(tape, hidden, norm, float_hidden);
    value = divergence->value;
    tape.backward(divergence, share);
    if (norm) autodiff::add_gradient(device_, norm, gradients[--first]);
    gradient = hidden->gradient;
  }
  for (size_t i = students_.size(); i-- > 0;) {
    states.pop_back();
    Tape tape(device_);
    const Var input = i > 0 ? tape.parameter(states.back()) : tape.constant(states.back());
    BlockLearner::Pass pass = students_[i].run(tape, input, context, true);
    const Var hidden = std::move(pass.output.hidden);
    pass.output = {};
    tape.backward_from(hidden, std::move(gradient));
    first -= pass.bound.size();
    for (size_t p = 0; p < pass.bound.size(); ++p)
      autodiff::add_gradient(device_, pass.bound[p], gradients[first + p]);
    gradient = input->gradient;
  }
  return value;
}

Result<bool> ModelStudent::storable() const {
  for (const RoundingStudent& student : students_) {
    ABQ_ASSIGN_OR_RETURN(const bool storable, student.storable());
    if (!storable) return false;
  }
  return true;
}

Status ModelStudent::store(ir::Module& module, PassContext& context) const {
  for (const RoundingStudent& student : students_)
    ABQ_RETURN_IF_ERROR(student.store(context));
  if (!head_.norm) return {};
  std::vector<float> values(static_cast<size_t>(head_.parameter.value.size()));
  device_.download(head_.parameter.value, values);
  ABQ_RETURN_IF_ERROR(device_.status());
  const auto head =
      std::find_if(module.regions.begin(), module.regions.end(),
                   [](const ir::Region& region) { return region.kind == ir::RegionKind::kHead; });
  return change_weight(module, *head, *head_.norm, [&](MatrixView<float> weight) {
    std::copy(values.begin(), values.end(), weight.data);
  });
}

}  // namespace abq::passes
