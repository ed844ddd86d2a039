#include "tools/bench_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <optional>

#include "compute/hadamard.h"
#include "runtime/device_engine.h"
#include "support/random.h"
#include "tools/console.h"

namespace abq::tools {
namespace {

using Clock = std::chrono::steady_clock;
using runtime::Program;

struct ModelShape {
  std::string_view name;
  int64_t hidden;
  int64_t intermediate;
  int layers;
  int heads;
  int kv_heads;
  int64_t vocabulary;
};

constexpr ModelShape kShapes[] = {
    {"llama-7b", 4096, 11008, 32, 32, 32, 32000},
    {"llama-13b", 5120, 13824, 40, 40, 40, 32000},
    {"llama-70b", 8192, 28672, 80, 64, 8, 32000},
};
constexpr int kHeadDim = 128;

Result<const ModelShape*> find_shape(std::string_view name) {
  std::string known;
  for (const ModelShape& shape : kShapes) {
    if (shape.name == name) return &shape;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", shape.name);
  }
  return not_found("model shape '{}': expected one of {}", name, known);
}

// What fills the linears of a run.
struct Variant {
  std::string name;
  std::optional<quant::Scheme> scheme;  // none = float16 weights and products
  bool rotated = false;                 // as compile --rotate leaves a model (docs/rotation.md)
};

// A scheme, or "SCHEME+rotate".
Result<Variant> parse_variant(const std::string& text) {
  constexpr std::string_view kRotate = "+rotate";
  Variant variant;
  variant.name = text;
  variant.rotated = text.ends_with(kRotate);
  const size_t length = text.size() - (variant.rotated ? kRotate.size() : 0);
  ABQ_ASSIGN_OR_RETURN(variant.scheme, quant::parse_scheme(text.substr(0, length)));
  if (!variant.scheme->weights.quantized())
    return invalid_argument("{}: bench --model-shape measures quantized weights; use w1..w8", text);
  return variant;
}

// A Llama model as steps, without weights.
class LlamaProgram {
 public:
  LlamaProgram(const ModelShape& shape, const Variant& variant, int64_t context,
               std::span<const float> frequencies)
      : shape_(shape), variant_(variant), frequencies_(frequencies) {
    program_.vocab_size = shape.vocabulary;
    program_.context = context;
    program_.random_weights = true;
    program_.fast_float_linears = !variant.scheme.has_value();
  }

  Program build() {
    uint32_t x = step("embedding", {}, shape_.hidden,
                      Program::Embedding{half_matrix(shape_.vocabulary, shape_.hidden)});
    for (int layer = 0; layer < shape_.layers; ++layer)
      x = block(x, layer);
    x = norm("norm", x);
    // The head keeps 16-bit weights in every scheme, as compiled models do.
    step("head", {x}, shape_.vocabulary,
         Program::Linear{half_matrix(shape_.vocabulary, shape_.hidden)});
    return std::move(program_);
  }

 private:
  static compute::FloatMatrix half_matrix(int64_t rows, int64_t cols) {
    return {compute::FloatType::kF16, nullptr, rows, cols};
  }

  uint32_t step(std::string name, std::vector<uint32_t> inputs, int64_t columns,
                Program::Operation operation, int bits = 0) {
    const uint32_t output = static_cast<uint32_t>(program_.buffers.size());
    program_.buffers.push_back({columns, bits});
    program_.steps.push_back({std::move(name), std::move(inputs), output, std::move(operation)});
    return output;
  }
  int64_t columns(uint32_t buffer) const { return program_.buffers[buffer].columns; }

  uint32_t norm(const std::string& name, uint32_t x) {
    return step(name, {x}, shape_.hidden,
                Program::RmsNorm{{compute::FloatType::kF32, nullptr, 1, shape_.hidden}, 1e-5f});
  }
  // The input as the linears behind it read it.
  uint32_t linear_input(const std::string& name, uint32_t x) {
    if (!variant_.scheme || variant_.scheme->activation_bits >= 16) return x;
    const int bits = variant_.scheme->activation_bits;
    return step(name + ".quantize", {x}, columns(x), Program::QuantizeTokens{bits}, bits);
  }
  uint32_t linear(const std::string& name, uint32_t x, int64_t n) {
    const int64_t k = columns(x);
    if (!variant_.scheme) return step(name, {x}, n, Program::Linear{half_matrix(n, k)});
    runtime::StoredWeights weights;
    weights.spec = variant_.scheme->weights;
    weights.layout = quant::PackedLayout::for_weights(weights.spec, n, k);
    return step(name, {x}, n, Program::BitLinear{weights, variant_.scheme->activation_bits});
  }
  // Queries or keys as attention reads them.
  uint32_t turned(const std::string& name, uint32_t x) {
    const uint32_t heads =
        step(name + ".rope", {x}, columns(x), Program::Rope{frequencies_, kHeadDim});
    const bool quantized =
        variant_.scheme && (variant_.scheme->kv_bits < 16 || variant_.scheme->query_bits < 16);
    return variant_.rotated && quantized ? transformed(name, heads, kHeadDim) : heads;
  }
  uint32_t transformed(const std::string& name, uint32_t x, int64_t size) {
    return step(name + ".hadamard", {x}, columns(x), Program::Hadamard{size});
  }

  uint32_t block(uint32_t x, int layer) {
    const std::string name = fmt::format("layers.{}", layer);
    const uint32_t attention_input = linear_input(name + ".attn", norm(name + ".norm1", x));
    const int64_t kv_columns = int64_t{shape_.kv_heads} * kHeadDim;
    const uint32_t q = linear(name + ".q", attention_input, int64_t{shape_.heads} * kHeadDim);
    const uint32_t k = linear(name + ".k", attention_input, kv_columns);
    const uint32_t v = linear(name + ".v", attention_input, kv_columns);
    Program::Attention attention;
    attention.layer = layer;
    attention.shape = {shape_.heads, shape_.kv_heads, kHeadDim, 0};
    if (variant_.scheme) {
      attention.kv_bits = variant_.scheme->kv_bits;
      attention.query_bits = variant_.scheme->query_bits;
    }
    const uint32_t heads =
        step(name + ".attention", {turned(name + ".q", q), turned(name + ".k", k), v}, columns(q),
             attention);
    const uint32_t o = linear(name + ".o", linear_input(name + ".o", heads), shape_.hidden);
    const uint32_t middle = step(name + ".add1", {x, o}, shape_.hidden, Program::Add{});
    const uint32_t mlp_input = linear_input(name + ".mlp", norm(name + ".norm2", middle));
    const uint32_t gate = linear(name + ".gate", mlp_input, shape_.intermediate);
    const uint32_t up = linear(name + ".up", mlp_input, shape_.intermediate);
    uint32_t gated = step(name + ".silu_mul", {gate, up}, shape_.intermediate, Program::SiluMul{});
    if (variant_.rotated)
      gated = transformed(
          name + ".down", gated,
          compute::online_hadamard(shape_.intermediate, variant_.scheme->activation_bits));
    const uint32_t down =
        linear(name + ".down", linear_input(name + ".down", gated), shape_.hidden);
    return step(name + ".add2", {middle, down}, shape_.hidden, Program::Add{});
  }

  const ModelShape& shape_;
  const Variant& variant_;
  std::span<const float> frequencies_;
  Program program_;
};

struct Measured {
  double prefill_seconds = 0;
  double token_seconds = 0;  // one decode step, all sequences of the batch
  int64_t memory_bytes = 0;  // weights, activations, KV caches
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Result<Measured> measure(const ModelShape& shape, const Variant& variant,
                         const ModelBenchOptions& options) {
  std::vector<float> frequencies(kHeadDim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i)
    frequencies[i] = std::pow(10000.0f, -2.0f * static_cast<float>(i) / kHeadDim);
  const int64_t context = options.prompt_tokens + options.new_tokens;
  Program program = LlamaProgram(shape, variant, context, frequencies).build();
  program.prefill_attention = options.prefill_attention;
  ABQ_ASSIGN_OR_RETURN(const std::unique_ptr<runtime::DeviceEngine> engine,
                       runtime::create_cuda_device_engine(program));
  std::vector<std::unique_ptr<runtime::DeviceSession>> sessions;
  std::vector<runtime::DeviceSession*> batch;
  for (int64_t i = 0; i < options.batch; ++i) {
    ABQ_ASSIGN_OR_RETURN(std::unique_ptr<runtime::DeviceSession> session,
                         engine->new_session({context, options.prompt_tokens}));
    batch.push_back(session.get());
    sessions.push_back(std::move(session));
  }
  Random random(1);
  std::vector<int32_t> prompt(static_cast<size_t>(options.prompt_tokens));
  for (int32_t& id : prompt)
    id = static_cast<int32_t>(random.below(static_cast<uint64_t>(shape.vocabulary)));
  std::vector<float> logits(static_cast<size_t>(shape.vocabulary));

  Measured result;
  std::vector<double> prefill;
  std::vector<double> decode;
  // One round more than asked: the first one makes what is made on first use.
  for (int repeat = 0; repeat <= options.repeats; ++repeat) {
    for (runtime::DeviceSession* session : batch) {
      session->reset();
      const Clock::time_point start = Clock::now();
      ABQ_RETURN_IF_ERROR(session->run(prompt, 1, logits.data()));
      if (repeat > 0) prefill.push_back(seconds_since(start));
    }
    std::vector<int32_t> ids(batch.size(), 1);
    const Clock::time_point start = Clock::now();
    for (int64_t i = 0; i < options.new_tokens; ++i)
      ABQ_RETURN_IF_ERROR(engine->decode(batch, ids, {.next = ids.data()}));
    if (repeat > 0)
      decode.push_back(seconds_since(start) / static_cast<double>(options.new_tokens));
  }
  result.prefill_seconds = median(prefill);
  result.token_seconds = median(decode);
  result.memory_bytes = engine->weight_bytes() + engine->activation_bytes();
  for (const auto& session : sessions)
    result.memory_bytes += session->memory_bytes();
  return result;
}

void print_row(const std::string& name, const Measured& row, const std::optional<Measured>& fp16,
               const std::optional<Measured>& w8a8, const ModelBenchOptions& options) {
  const auto faster = [&](const std::optional<Measured>& other) {
    return other ? fmt::format("{:.2f}x", other->token_seconds / row.token_seconds) : "";
  };
  print_out("{:<20} {:>9.1f} {:>9.3f} {:>10.0f} {:>10} {:>9} {:>9} {:>9}\n", name,
            static_cast<double>(options.batch) / row.token_seconds, row.token_seconds * 1e3,
            static_cast<double>(options.prompt_tokens) / row.prefill_seconds,
            human_bytes(row.memory_bytes), faster(fp16), faster(w8a8),
            fp16 ? fmt::format("{:.3f}x", static_cast<double>(row.memory_bytes) /
                                              static_cast<double>(fp16->memory_bytes))
                 : "");
}

Status check_options(const ModelBenchOptions& options) {
  constexpr int64_t kMost = 1 << 16;
  for (const int64_t value : {options.prompt_tokens, options.new_tokens, options.batch}) {
    if (value < 1 || value > kMost) {
      return invalid_argument(
          "bench --model-shape: {} prompt tokens, {} new ones, batch {}; expected 1 to {} each",
          options.prompt_tokens, options.new_tokens, options.batch, kMost);
    }
  }
  if (options.prompt_tokens < 2)
    return invalid_argument("bench --model-shape: a prompt of 1 token; expected 2 or more");
  return {};
}

}  // namespace

Status bench_model(const ModelBenchOptions& options) {
  ABQ_RETURN_IF_ERROR(check_options(options));
  ABQ_ASSIGN_OR_RETURN(const ModelShape* shape, find_shape(options.shape));
  std::vector<Variant> variants = {{"fp16 (cuBLAS)", std::nullopt, false}};
  const std::string w8a8 = "w8a8-kv8";
  ABQ_ASSIGN_OR_RETURN(const Variant eight, parse_variant(w8a8));
  variants.push_back(eight);
  for (const std::string& text : options.schemes) {
    ABQ_ASSIGN_OR_RETURN(const Variant variant, parse_variant(text));
    if (text != w8a8) variants.push_back(variant);
  }
  print_out("{}: {} prompt tokens + {} new ones, batch {}, median of {}\n", shape->name,
            options.prompt_tokens, options.new_tokens, options.batch, options.repeats);
  print_out("{:<20} {:>9} {:>9} {:>10} {:>10} {:>9} {:>9} {:>9}\n", "weights", "tokens/s",
            "ms/step", "prefill/s", "memory", "x fp16", "x w8a8", "memory x");
  std::optional<Measured> fp16_row;
  std::optional<Measured> w8a8_row;
  for (const Variant& variant : variants) {
    const Result<Measured> measured = measure(*shape, variant, options);
    const bool baseline = !variant.scheme || variant.name == w8a8;
    if (!measured.ok() && baseline && measured.status().code() == StatusCode::kDevice) {
      // A baseline that does not fit the device is an answer too; the others stand without it.
      print_out("{:<20} {}\n", variant.name, measured.status().message());
      continue;
    }
    if (!measured.ok()) return measured.status().with_context(variant.name);
    if (!variant.scheme) fp16_row = *measured;
    if (variant.name == w8a8) w8a8_row = *measured;
    print_row(variant.name, *measured, fp16_row, w8a8_row, options);
  }
  return {};
}

}  // namespace abq::tools
