#include "tools/bench_attention.h"

#include <fmt/format.h>

#include "quant/scheme.h"
#include "runtime/device_attention.h"
#include "tools/console.h"

namespace abq::tools {
namespace {

struct Chunk {
  int64_t m = 0;
  int64_t past = 0;
};
constexpr Chunk kChunks[] = {{64, 0},     {64, 1984},  {128, 0},  {128, 384},
                             {256, 0},    {256, 1792}, {512, 0},  {512, 512},
                             {512, 1536}, {512, 7680}, {2048, 0}, {2048, 6144}};
// Heads of LLaMA-7B, and of models with grouped queries.
constexpr int kHeads = 32;
constexpr int kHeadDim = 128;
constexpr int kKvHeads[] = {32, 8};
// Results of both are float16's roundings apart: some 2^-11 of a result each.
constexpr double kMostDifference = 2e-3;

// Products of queries with keys and of probabilities with values that the mask leaves.
double operations(const runtime::AttentionProblem& problem) {
  const double seen = static_cast<double>(problem.past) + static_cast<double>(problem.m + 1) / 2;
  return 4.0 * problem.heads * problem.head_dim * static_cast<double>(problem.m) * seen;
}

Status run_problem(runtime::DeviceAttention& attention, const std::string& scheme,
                   const runtime::AttentionProblem& problem) {
  ABQ_ASSIGN_OR_RETURN(const runtime::AttentionTiming timing, attention.time(problem));
  const auto rate = [&](double us) { return operations(problem) / us * 1e-6; };
  std::string other = timing.cudnn_missing;
  if (timing.cudnn_us > 0) {
    other = fmt::format("{:>9.1f} {:>7.1f} {:>10.1e}  {}", timing.cudnn_us, rate(timing.cudnn_us),
                        timing.difference, timing.chooses_cudnn ? "cuDNN" : "own");
  }
  print_out("{:<14} {:>3}/{:<3} {:>6} {:>7} {:>9.1f} {:>7.1f} {}\n", scheme, problem.heads,
            problem.kv_heads, problem.m, problem.past, timing.own_us, rate(timing.own_us), other);
  if (timing.difference <= kMostDifference) return {};
  return device_error("{}, {} tokens behind {}: results are {:.1e} apart, expected at most {:.0e}",
                      scheme, problem.m, problem.past, timing.difference, kMostDifference);
}

}  // namespace

Status bench_attention(const AttentionBenchOptions& options) {
  ABQ_ASSIGN_OR_RETURN(const std::unique_ptr<runtime::DeviceAttention> attention,
                       runtime::create_cuda_device_attention());
  std::vector<Chunk> chunks(std::begin(kChunks), std::end(kChunks));
  if (!options.tokens.empty()) chunks.clear();
  for (const int64_t m : options.tokens)
    chunks.push_back({m, 0});
  print_out("attention of prompts, heads of {}; {}\n", kHeadDim, attention->description());
  print_out("{:<14} {:>7} {:>6} {:>7} {:>9} {:>7} {:>9} {:>7} {:>10}  {}\n", "scheme", "heads",
            "tokens", "past", "own us", "TFLOPS", "cuDNN us", "TFLOPS", "apart", "taken");
  for (const std::string& name : options.schemes) {
    ABQ_ASSIGN_OR_RETURN(const quant::Scheme scheme, quant::parse_scheme(name));
    for (const int kv_heads : kKvHeads) {
      for (const Chunk& chunk : chunks) {
        runtime::AttentionProblem problem;
        problem.heads = kHeads;
        problem.kv_heads = kv_heads;
        problem.head_dim = kHeadDim;
        problem.query_bits = scheme.query_bits;
        problem.kv_bits = scheme.kv_bits;
        problem.m = chunk.m;
        problem.past = chunk.past;
        ABQ_RETURN_IF_ERROR(run_problem(*attention, name, problem));
      }
    }
  }
  return {};
}

}  // namespace abq::tools
