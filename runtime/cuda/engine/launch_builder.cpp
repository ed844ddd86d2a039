#include "runtime/cuda/engine/launch_builder.h"

namespace abq::runtime::cuda {

Result<LaunchList> LaunchBuilder::build() {
  for (int i = 0; i < count(); ++i) {
    if (done_[static_cast<size_t>(i)]) continue;
    const Status status = std::visit([&](const auto& op) { return add(i, op); }, step(i).operation);
    if (!status.ok()) return status.with_context(step(i).name);
  }
  list_.logits = place_of(program_.steps.back().output);
  if (!list_.logits.present()) return unsupported("the logits are no float buffer");
  find_row_wise_tail();
  return std::move(list_);
}

int LaunchBuilder::quantization_of(Buffer buffer) const {
  for (const int reader : consumers(buffer)) {
    if (as<Program::QuantizeTokens>(reader) != nullptr && !done_[static_cast<size_t>(reader)])
      return reader;
  }
  return kNone;
}

int LaunchBuilder::new_tokens(int quantize_step) {
  const Program::Step& s = step(quantize_step);
  const int storage = new_storage(Storage::Kind::kTokens, program_.buffers[s.output].columns,
                                  as<Program::QuantizeTokens>(quantize_step)->bits);
  tokens_[s.output] = storage;
  done_[static_cast<size_t>(quantize_step)] = true;
  return storage;
}

Status LaunchBuilder::add(int i, const Program::RmsNorm&) {
  const Buffer output = step(i).output;
  NormLaunch launch;
  launch.step = i;
  ABQ_ASSIGN_OR_RETURN(launch.x, read_float(step(i).inputs[0]));
  std::vector<int> steps = {i};
  if (const int quantize = quantization_of(output); quantize != kNone) {
    launch.tokens = new_tokens(quantize);
    steps.push_back(quantize);
  }
  if (steps.size() == 1 || consumers(output).size() > 1) launch.y = new_float(output);
  push(std::move(steps), launch);
  return {};
}

Status LaunchBuilder::add(int i, const Program::QuantizeTokens&) {
  QuantizeLaunch launch;
  ABQ_ASSIGN_OR_RETURN(launch.x, read_float(step(i).inputs[0]));
  launch.tokens = new_tokens(i);
  push({i}, launch);
  return {};
}

Status LaunchBuilder::add(int i, const Program::SiluMul&) {
  SiluMulLaunch launch;
  ABQ_ASSIGN_OR_RETURN(launch.gate, read_float(step(i).inputs[0]));
  ABQ_ASSIGN_OR_RETURN(launch.up, read_float(step(i).inputs[1]));
  std::vector<int> steps = {i};
  const Buffer output = step(i).output;
  if (const int quantize = only_consumer<Program::QuantizeTokens>(output); quantize != kNone) {
    launch.tokens = new_tokens(quantize);
    steps.push_back(quantize);
  } else {
    launch.y = new_float(output);
  }
  push(std::move(steps), launch);
  return {};
}

Status LaunchBuilder::add(int i, const Program::Add&) {
  AddLaunch launch;
  ABQ_ASSIGN_OR_RETURN(launch.a, read_float(step(i).inputs[0]));
  ABQ_ASSIGN_OR_RETURN(launch.b, read_float(step(i).inputs[1]));
  launch.y = new_float(step(i).output);
  push({i}, launch);
  return {};
}

bool LaunchBuilder::join_attention(Buffer output, int64_t head_dim, const Turns& turns) {
  const int reader = only_consumer<Program::Attention>(output);
  if (reader == kNone) return false;
  const auto& inputs = step(reader).inputs;
  const bool turns_one = (output == inputs[0]) != (output == inputs[1]);
  if (!turns_one || output == inputs[2] ||
      head_dim != as<Program::Attention>(reader)->shape.head_dim)
    return false;
  turns_[{reader, output == inputs[0] ? 0 : 1}] = turns;
  for (const int turned : {turns.rope, turns.transform}) {
    if (turned != kNone) done_[static_cast<size_t>(turned)] = true;
  }
  return true;
}

Result<Place> LaunchBuilder::attention_input(int i, size_t input, Turns* turns) {
  const auto found = turns_.find({i, input});
  if (found != turns_.end()) *turns = found->second;
  const int first = turns->rope != kNone ? turns->rope : turns->transform;
  return read_float(first == kNone ? step(i).inputs[input] : step(first).inputs[0]);
}

Status LaunchBuilder::add(int i, const Program::Hadamard& transform) {
  const Buffer output = step(i).output;
  const bool power_of_two = (transform.size & (transform.size - 1)) == 0;
  if (power_of_two && join_attention(output, transform.size, {kNone, i})) return {};
  HadamardLaunch launch;
  launch.step = i;
  ABQ_ASSIGN_OR_RETURN(launch.x, read_float(step(i).inputs[0]));
  launch.y = new_float(output);
  std::vector<int> steps = {i};
  if (const int quantize = quantization_of(output); quantize != kNone) {
    launch.tokens = new_tokens(quantize);
    launch.y_is_read = consumers(output).size() > 1;
    steps.push_back(quantize);
  }
  push(std::move(steps), launch);
  return {};
}

Status LaunchBuilder::add(int i, const Program::Rope& rope) {
  // Attention turns its own queries and keys: only the place of the input is passed on.
  const Buffer output = step(i).output;
  if (join_attention(output, rope.head_dim, {i, kNone})) return {};
  if (const int next = only_consumer<Program::Hadamard>(output); next != kNone) {
    const int64_t size = as<Program::Hadamard>(next)->size;
    const bool power_of_two = (size & (size - 1)) == 0;
    if (power_of_two && size == rope.head_dim && join_attention(step(next).output, size, {i, next}))
      return {};
  }
  RotaryLaunch launch;
  launch.step = i;
  ABQ_ASSIGN_OR_RETURN(launch.x, read_float(step(i).inputs[0]));
  launch.y = new_float(output);
  push({i}, launch);
  return {};
}

Status LaunchBuilder::add(int i, const Program::Attention&) {
  AttentionLaunch launch;
  launch.step = i;
  Turns queries, keys;
  ABQ_ASSIGN_OR_RETURN(launch.q, attention_input(i, 0, &queries));
  ABQ_ASSIGN_OR_RETURN(launch.k, attention_input(i, 1, &keys));
  launch.query_rope = queries.rope;
  launch.key_rope = keys.rope;
  launch.query_transform = queries.transform;
  launch.key_transform = keys.transform;
  ABQ_ASSIGN_OR_RETURN(launch.v, read_float(step(i).inputs[2]));
  const Buffer output = step(i).output;
  launch.y = new_float(output);
  std::vector<int> steps = {i};
  for (const int turned : {queries.rope, queries.transform, keys.rope, keys.transform}) {
    if (turned != kNone) steps.push_back(turned);
  }
  const int quantize = quantization_of(output);
  if (quantize == kNone) {
    push(std::move(steps), launch);
    return {};
  }
  // Decoding quantizes in the same launch; a prompt does so in one of its own behind it.
  launch.tokens = new_tokens(quantize);
  launch.y_is_read = consumers(output).size() > 1;
  push(std::move(steps), launch);
  QuantizeLaunch behind;
  ABQ_ASSIGN_OR_RETURN(behind.x, read_float(output));
  behind.tokens = launch.tokens;
  behind.in_decode = false;
  read(behind.tokens);
  push({quantize}, behind);
  return {};
}

void LaunchBuilder::find_row_wise_tail() {
  int tail = 0;
  for (int i = 0; i < next_launch(); ++i) {
    const LaunchOperation& operation = list_.launches[static_cast<size_t>(i)].operation;
    if (std::holds_alternative<AttentionLaunch>(operation) ||
        std::holds_alternative<RotaryLaunch>(operation) ||
        std::holds_alternative<EmbedLaunch>(operation))
      tail = i + 1;
  }
  const bool crossed =
      std::any_of(list_.storages.begin(), list_.storages.end(), [&](const Storage& storage) {
        const bool quantized_by_attention =
            storage.first == tail - 1 && storage.kind == Storage::Kind::kTokens;
        return storage.kind != Storage::Kind::kFloat && storage.first < tail &&
               storage.last >= tail && !quantized_by_attention;
      });
  list_.first_row_wise = crossed ? next_launch() : tail;
}

}  // namespace abq::runtime::cuda
