#include "runtime/cuda/engine/launch_list.h"

#include <algorithm>
#include <map>

namespace abq::runtime::cuda {
namespace {

class Builder {
 public:
  explicit Builder(const Program& program)
      : program_(program),
        done_(program.steps.size(), false),
        consumers_(program.buffers.size()),
        places_(program.buffers.size()),
        tokens_(program.buffers.size(), kNone),
        halves_(program.buffers.size(), kNone) {
    for (int i = 0; i < count(); ++i) {
      for (const uint32_t input : step(i).inputs)
        consumers_[input].push_back(i);
    }
  }

  Result<LaunchList> build() {
    for (int i = 0; i < count(); ++i) {
      if (done_[static_cast<size_t>(i)]) continue;
      const Status status =
          std::visit([&](const auto& op) { return add(i, op); }, step(i).operation);
      if (!status.ok()) return status.with_context(step(i).name);
    }
    list_.logits = place_of(program_.steps.back().output);
    if (!list_.logits.present()) return unsupported("the logits are no float buffer");
    find_row_wise_tail();
    return std::move(list_);
  }

 private:
  using Buffer = uint32_t;

  int count() const { return static_cast<int>(program_.steps.size()); }
  const Program::Step& step(int i) const { return program_.steps[static_cast<size_t>(i)]; }
  template <class Operation>
  const Operation* as(int i) const {
    return std::get_if<Operation>(&step(i).operation);
  }
  const std::vector<int>& consumers(Buffer buffer) const { return consumers_[buffer]; }
  Place place_of(Buffer buffer) const { return places_[buffer]; }

  // The only reader of a buffer that is a step of this kind, or kNone. The logits have a reader
  // outside.
  template <class Operation>
  int only_consumer(Buffer buffer) const {
    if (consumers(buffer).size() != 1 || buffer == program_.steps.back().output) return kNone;
    const int reader = consumers(buffer)[0];
    return as<Operation>(reader) != nullptr ? reader : kNone;
  }
  // The first quantization among the readers of a buffer that no launch does yet.
  int quantization_of(Buffer buffer) const {
    for (const int reader : consumers(buffer)) {
      if (as<Program::QuantizeTokens>(reader) != nullptr && !done_[static_cast<size_t>(reader)])
        return reader;
    }
    return kNone;
  }

  int next_launch() const { return static_cast<int>(list_.launches.size()); }
  int new_storage(Storage::Kind kind, int64_t columns, int bits = 0) {
    list_.storages.push_back({kind, columns, bits, next_launch(), next_launch()});
    return static_cast<int>(list_.storages.size()) - 1;
  }
  Place new_float(Buffer buffer) {
    const int64_t columns = program_.buffers[buffer].columns;
    const Place place = {new_storage(Storage::Kind::kFloat, columns), 0, columns};
    places_[buffer] = place;
    return place;
  }
  int new_tokens(int quantize_step) {
    const Program::Step& s = step(quantize_step);
    const int storage = new_storage(Storage::Kind::kTokens, program_.buffers[s.output].columns,
                                    as<Program::QuantizeTokens>(quantize_step)->bits);
    tokens_[s.output] = storage;
    done_[static_cast<size_t>(quantize_step)] = true;
    return storage;
  }
  void read(int storage) {
    Storage& s = list_.storages[static_cast<size_t>(storage)];
    s.last = std::max(s.last, next_launch());
  }
  Result<Place> read_float(Buffer buffer) {
    const Place place = place_of(buffer);
    if (!place.present()) return unsupported("buffer {} is read before it was written", buffer);
    read(place.storage);
    return place;
  }
  void push(std::vector<int> steps, LaunchOperation operation) {
    for (const int i : steps)
      done_[static_cast<size_t>(i)] = true;
    std::string name = step(steps.front()).name;
    list_.launches.push_back({std::move(name), std::move(steps), std::move(operation)});
  }

  Status add(int i, const Program::Embedding&) {
    push({i}, EmbedLaunch{i, new_float(step(i).output)});
    return {};
  }

  Status add(int i, const Program::RmsNorm&) {
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

  Status add(int i, const Program::QuantizeTokens&) {
    QuantizeLaunch launch;
    ABQ_ASSIGN_OR_RETURN(launch.x, read_float(step(i).inputs[0]));
    launch.tokens = new_tokens(i);
    push({i}, launch);
    return {};
  }

  Status add(int i, const Program::SiluMul&) {
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

  Status add(int i, const Program::Add&) {
    AddLaunch launch;
    ABQ_ASSIGN_OR_RETURN(launch.a, read_float(step(i).inputs[0]));
    ABQ_ASSIGN_OR_RETURN(launch.b, read_float(step(i).inputs[1]));
    launch.y = new_float(step(i).output);
    push({i}, launch);
    return {};
  }

  Status add(int i, const Program::Rope&) {
    // Attention rotates its own queries and keys: only the place of the input is passed on.
    const Buffer output = step(i).output;
    if (const int reader = only_consumer<Program::Attention>(output); reader != kNone) {
      const auto& inputs = step(reader).inputs;
      const bool rotates = (output == inputs[0]) != (output == inputs[1]);
      if (rotates && output != inputs[2] &&
          as<Program::Rope>(i)->head_dim == as<Program::Attention>(reader)->shape.head_dim) {
        (output == inputs[0] ? query_ropes_ : key_ropes_)[reader] = i;
        done_[static_cast<size_t>(i)] = true;
        return {};
      }
    }
    RopeLaunch launch;
    launch.step = i;
    ABQ_ASSIGN_OR_RETURN(launch.x, read_float(step(i).inputs[0]));
    launch.y = new_float(output);
    push({i}, launch);
    return {};
  }

  // What attention step `i` reads as input `input`: that of the rope that it takes over.
  Result<Place> attention_input(int i, size_t input, const std::map<int, int>& ropes, int* rope) {
    const auto found = ropes.find(i);
    *rope = found == ropes.end() ? kNone : found->second;
    return read_float(*rope == kNone ? step(i).inputs[input] : step(*rope).inputs[0]);
  }

  Status add(int i, const Program::Attention&) {
    AttentionLaunch launch;
    launch.step = i;
    ABQ_ASSIGN_OR_RETURN(launch.q, attention_input(i, 0, query_ropes_, &launch.query_rope));
    ABQ_ASSIGN_OR_RETURN(launch.k, attention_input(i, 1, key_ropes_, &launch.key_rope));
    ABQ_ASSIGN_OR_RETURN(launch.v, read_float(step(i).inputs[2]));
    const Buffer output = step(i).output;
    launch.y = new_float(output);
    std::vector<int> steps = {i};
    for (const int rope : {launch.query_rope, launch.key_rope}) {
      if (rope != kNone) steps.push_back(rope);
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

  // Steps not done yet that read `buffer` and may share a matrix with step `i`.
  template <class Fits>
  std::vector<int> siblings(Buffer buffer, const Fits& fits) const {
    std::vector<int> result;
    for (const int reader : consumers(buffer)) {
      if (!done_[static_cast<size_t>(reader)] && fits(reader)) result.push_back(reader);
    }
    return result;
  }

  // The add that only waits for the result of step `i`: its other operand is there already.
  int residual_add(int i) const {
    const Buffer output = step(i).output;
    const int sum = only_consumer<Program::Add>(output);
    if (sum == kNone || step(sum).inputs[0] == step(sum).inputs[1]) return kNone;
    return place_of(other_operand(sum, output)).present() ? sum : kNone;
  }
  Buffer other_operand(int sum, Buffer operand) const {
    const auto& inputs = step(sum).inputs;
    return inputs[0] == operand ? inputs[1] : inputs[0];
  }

  // Where the results of `parts` go: side by side in one storage, or to the sum that one part
  // feeds.
  Status place_results(std::vector<int>* parts, Place* residual, Place* y) {
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

  Result<int> linear_input(Buffer buffer, int activation_bits) {
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

  // A silu_mul both of whose operands are computed by steps of `group` and read by nothing else.
  int gating_of(const std::vector<int>& group) const {
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
  int producer_in(const std::vector<int>& group, Buffer buffer) const {
    const auto found = std::find_if(group.begin(), group.end(),
                                    [&](int part) { return step(part).output == buffer; });
    return found == group.end() ? kNone : *found;
  }

  Status add(int i, const Program::BitLinear& linear) {
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

  Status add(int i, const Program::Linear& linear) {
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

  // After the last attention every launch works on its own row; what it reads from before must be
  // float, because quantized tokens cannot be cut to their last rows.
  void find_row_wise_tail() {
    int tail = 0;
    for (int i = 0; i < next_launch(); ++i) {
      const LaunchOperation& operation = list_.launches[static_cast<size_t>(i)].operation;
      if (std::holds_alternative<AttentionLaunch>(operation) ||
          std::holds_alternative<RopeLaunch>(operation) ||
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

  const Program& program_;
  LaunchList list_;
  std::vector<bool> done_;
  std::vector<std::vector<int>> consumers_;  // of each buffer, steps in order
  std::vector<Place> places_;                // of each float buffer
  std::vector<int> tokens_;                  // storage of each token buffer
  std::vector<int> halves_;                  // storage of each float buffer that was split
  std::map<int, int> query_ropes_;           // attention step -> rope step
  std::map<int, int> key_ropes_;
};

}  // namespace

Result<LaunchList> make_launch_list(const Program& program) {
  if (program.steps.empty()) return unsupported("the program has no steps");
  return Builder(program).build();
}

MemoryPlan plan_memory(std::span<const Storage> storages, std::span<const int64_t> sizes) {
  constexpr int64_t kAlignment = 256;
  // Largest first, each at the lowest offset where nothing alive at the same time lies.
  std::vector<size_t> order(storages.size());
  for (size_t i = 0; i < order.size(); ++i)
    order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return sizes[a] > sizes[b]; });
  MemoryPlan plan;
  plan.offsets.assign(storages.size(), 0);
  std::vector<size_t> placed;
  for (const size_t i : order) {
    std::vector<size_t> alive;
    for (const size_t other : placed) {
      if (storages[i].first <= storages[other].last && storages[other].first <= storages[i].last)
        alive.push_back(other);
    }
    std::sort(alive.begin(), alive.end(),
              [&](size_t a, size_t b) { return plan.offsets[a] < plan.offsets[b]; });
    int64_t offset = 0;
    for (const size_t other : alive) {
      if (plan.offsets[other] - offset >= sizes[i]) break;
      const int64_t end = plan.offsets[other] + sizes[other];
      offset = std::max(offset, (end + kAlignment - 1) / kAlignment * kAlignment);
    }
    plan.offsets[i] = offset;
    plan.bytes = std::max(plan.bytes, offset + sizes[i]);
    placed.push_back(i);
  }
  return plan;
}

}  // namespace abq::runtime::cuda
