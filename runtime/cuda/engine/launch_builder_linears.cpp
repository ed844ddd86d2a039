// Linears: matrices that read the same input become one, sums and gates go into its epilogue.
#include "runtime/cuda/engine/launch_builder.h"

namespace abq::runtime::cuda {

Status LaunchBuilder::place_results(std::vector<int>* parts, Place* residual, Place* y) {
  if (parts->size() == 1) {
    const int part = parts->front();
    if (const int sum = residual_add(part); sum != kNone) {
      ABQ_ASSIGN_OR_RETURN(*residual, read_float(other_operand(sum, step(part).output)));
      *y = new_float(step(sum).output);
      parts->push_back(sum);
      return {};
    }
  }
  int64_t columns = 0;
  for (const int part : *parts)
    columns += program_.buffers[step(part).output].columns;
  *y = {new_storage(Storage::Kind::kFloat, columns), 0, columns};
  int64_t column = 0;
  for (const int part : *parts) {
    const int64_t own = program_.buffers[step(part).output].columns;
    places_[step(part).output] = {y->storage, column, own};
    column += own;
  }
  return {};
}

Result<int> LaunchBuilder::linear_input(Buffer buffer, int activation_bits) {
  if (activation_bits < 16) {
    if (tokens_[buffer] == kNone) return unsupported("buffer {} holds no tokens", buffer);
    return tokens_[buffer];
  }
  if (halves_[buffer] == kNone) {
    SplitLaunch split;
    ABQ_ASSIGN_OR_RETURN(split.x, read_float(buffer));
    split.halves = new_storage(Storage::Kind::kHalves, program_.buffers[buffer].columns);
    halves_[buffer] = split.halves;
    list_.launches.push_back({"split_halves", {}, split});
  }
  return halves_[buffer];
}

int LaunchBuilder::gating_of(const std::vector<int>& group) const {
  for (const int part : group) {
    const int gate = only_consumer<Program::SiluMul>(step(part).output);
    if (gate == kNone || step(gate).inputs[0] != step(part).output) continue;
    for (const int other : group) {
      if (other != part && step(gate).inputs[1] == step(other).output &&
          only_consumer<Program::SiluMul>(step(other).output) == gate)
        return gate;
    }
  }
  return kNone;
}

Status LaunchBuilder::add(int i, const Program::BitLinear& linear) {
  const Buffer input = step(i).inputs[0];
  std::vector<int> group = siblings(input, [&](int reader) {
    const auto* other = as<Program::BitLinear>(reader);
    return other != nullptr && other->activation_bits == linear.activation_bits &&
           other->weights.spec == linear.weights.spec;
  });
  QuantizedLinearLaunch launch;
  launch.activation_bits = linear.activation_bits;
  ABQ_ASSIGN_OR_RETURN(launch.input, linear_input(input, linear.activation_bits));
  if (const int gate = gating_of(group); gate != kNone) {
    const int gate_part = producer_in(group, step(gate).inputs[0]);
    const int up_part = producer_in(group, step(gate).inputs[1]);
    // The step at hand may be a third sibling: its turn comes again.
    launch.gated = true;
    launch.parts = {gate_part, up_part};
    read(launch.input);
    launch.y = new_float(step(gate).output);
    push({gate_part, up_part, gate}, launch);
    if (done_[static_cast<size_t>(i)]) return {};
    return add(i, linear);
  }
  read(launch.input);
  launch.parts = group;
  std::vector<int> steps = group;
  ABQ_RETURN_IF_ERROR(place_results(&steps, &launch.residual, &launch.y));
  push(std::move(steps), launch);
  return {};
}

Status LaunchBuilder::add(int i, const Program::Linear& linear) {
  const Buffer input = step(i).inputs[0];
  FloatLinearLaunch launch;
  launch.parts = siblings(input, [&](int reader) {
    const auto* other = as<Program::Linear>(reader);
    return other != nullptr && other->weight.type == linear.weight.type;
  });
  ABQ_ASSIGN_OR_RETURN(launch.x, read_float(input));
  std::vector<int> steps = launch.parts;
  ABQ_RETURN_IF_ERROR(place_results(&steps, &launch.residual, &launch.y));
  push(std::move(steps), launch);
  return {};
}

}  // namespace abq::runtime::cuda
