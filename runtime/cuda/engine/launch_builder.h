// Walks a program's steps in order and says what becomes one launch. Private to launch_list.cpp's
// make_launch_list(); launch_builder_linears.cpp has what concerns linears.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "runtime/cuda/engine/launch_list.h"

namespace abq::runtime::cuda {

class LaunchBuilder {
 public:
  explicit LaunchBuilder(const Program& program)
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

  Result<LaunchList> build();

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
  int quantization_of(Buffer buffer) const;

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
  int new_tokens(int quantize_step);
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

  Status add(int i, const Program::RmsNorm&);

  Status add(int i, const Program::QuantizeTokens&);

  Status add(int i, const Program::SiluMul&);

  Status add(int i, const Program::Add&);

  Status add(int i, const Program::Rope&);

  Status add(int i, const Program::Hadamard&);

  // What attention does to its queries or keys before it quantizes them: steps, or kNone.
  struct Turns {
    int rope = kNone;
    int transform = kNone;
  };
  // Hands over `turns` of heads of `head_dim`, the last of which writes `output`, to the attention
  // that alone reads it as queries or as keys. False when there is none that can take them.
  bool join_attention(Buffer output, int64_t head_dim, const Turns& turns);
  // What attention step `i` reads as input `input`: that of the first step that it takes over.
  Result<Place> attention_input(int i, size_t input, Turns* turns);

  Status add(int i, const Program::Attention&);

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
  Status place_results(std::vector<int>* parts, Place* residual, Place* y);

  Result<int> linear_input(Buffer buffer, int activation_bits);

  // A silu_mul both of whose operands are computed by steps of `group` and read by nothing else.
  int gating_of(const std::vector<int>& group) const;
  int producer_in(const std::vector<int>& group, Buffer buffer) const {
    const auto found = std::find_if(group.begin(), group.end(),
                                    [&](int part) { return step(part).output == buffer; });
    return found == group.end() ? kNone : *found;
  }

  Status add(int i, const Program::BitLinear& linear);

  Status add(int i, const Program::Linear& linear);

  // After the last attention every launch works on its own row; what it reads from before must be
  // float, because quantized tokens cannot be cut to their last rows.
  void find_row_wise_tail();

  const Program& program_;
  LaunchList list_;
  std::vector<bool> done_;
  std::vector<std::vector<int>> consumers_;        // of each buffer, steps in order
  std::vector<Place> places_;                      // of each float buffer
  std::vector<int> tokens_;                        // storage of each token buffer
  std::vector<int> halves_;                        // storage of each float buffer that was split
  std::map<std::pair<int, size_t>, Turns> turns_;  // of an attention step's input
};

}  // namespace abq::runtime::cuda
