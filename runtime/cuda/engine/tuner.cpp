#include "runtime/cuda/engine/tuner.h"

#include <algorithm>

#include "runtime/cuda/bench/graph_timer.h"
#include "runtime/cuda/engine/activation_memory.h"
#include "runtime/cuda/token_memory.h"

namespace abq::runtime::cuda {
namespace {

constexpr int kBytePattern = 0x11;
// Launches of a graph, for few and for many tokens.
constexpr int kShortLaunches = 96;
constexpr int kLongLaunches = 24;
constexpr int64_t kFewTokens = 64;

// Launches with one answer: same codes, same shape.
struct Kind {
  LinearProblem problem;
  std::vector<const WeightTiles*> tiles;
};

bool same_kind(const LinearProblem& a, const LinearProblem& b) {
  return a.planes == b.planes && a.encoding == b.encoding && a.group_size == b.group_size &&
         a.activation_bits == b.activation_bits && a.n == b.n && a.k == b.k;
}

std::vector<Kind> kinds_of(const LaunchList& list, const DeviceWeights& weights) {
  std::vector<Kind> kinds;
  for (size_t i = 0; i < list.launches.size(); ++i) {
    const auto* linear = std::get_if<QuantizedLinearLaunch>(&list.launches[i].operation);
    if (linear == nullptr || linear->activation_bits >= 16) continue;  // A16 has one kernel
    const WeightTiles& tiles = weights[i].tiles;
    const LinearProblem problem = linear_problem(tiles, linear->activation_bits, 1);
    const auto found = std::find_if(kinds.begin(), kinds.end(), [&](const Kind& kind) {
      return same_kind(kind.problem, problem);
    });
    Kind& kind = found != kinds.end() ? *found : kinds.emplace_back(Kind{problem, {}});
    kind.tiles.push_back(&tiles);
  }
  return kinds;
}

// Tokens whose codes are any bytes, and room for results.
class TokenArena {
 public:
  static Result<TokenArena> create(const Kind& kind, int64_t m) {
    TokenArena arena;
    arena.k_ = kind.problem.k;
    arena.bits_ = kind.problem.activation_bits;
    ABQ_ASSIGN_OR_RETURN(arena.tokens_, DeviceArray<std::byte>::create(
                                            token_memory_bytes(m, arena.k_, arena.bits_)));
    ABQ_RETURN_IF_CUDA_ERROR(
        cudaMemset(arena.tokens_.data(), kBytePattern, static_cast<size_t>(arena.tokens_.bytes())),
        "tokens of {} x {}", m, kind.problem.k);
    ABQ_ASSIGN_OR_RETURN(arena.y_, DeviceArray<float>::create(m * kind.problem.n));
    ABQ_RETURN_IF_CUDA_ERROR(cudaDeviceSynchronize(), "tokens of {} x {}", m, kind.problem.k);
    return arena;
  }

  TokenTiles tokens(int64_t m) { return token_view(m, k_, bits_, tokens_.data()); }
  LinearOutput output(const WeightTiles& tiles) {
    LinearOutput output;
    output.y = y_.data();
    output.stride = tiles.gated ? tiles.n / 2 : tiles.n;
    return output;
  }

 private:
  int64_t k_ = 0;
  int bits_ = 0;
  DeviceArray<std::byte> tokens_;
  DeviceArray<float> y_;
};

Result<double> time_kernel(LinearKernel kernel, const Kind& kind, int64_t m, TokenArena& arena) {
  const TokenTiles tokens = arena.tokens(m);
  return time_graph(
      m > kFewTokens ? kLongLaunches : kShortLaunches, [&](int call, cudaStream_t stream) {
        const WeightTiles& tiles = *kind.tiles[static_cast<size_t>(call) % kind.tiles.size()];
        return run_linear(kernel, tiles, tokens, arena.output(tiles), stream);
      });
}

// The fastest kernel at m tokens.
Result<TunedChoice> tune(const Kind& kind, int64_t m, TokenArena& arena) {
  TunedChoice best;
  best.planes = kind.problem.planes;
  best.base5 = kind.problem.encoding == TileEncoding::kBase5;
  best.group_size = kind.problem.group_size;
  best.activation_bits = kind.problem.activation_bits;
  best.n = kind.problem.n;
  best.k = kind.problem.k;
  best.max_m = m;
  LinearProblem problem = kind.problem;
  problem.m = m;
  for (const LinearKernel kernel : kLinearKernels) {
    if (token_form(kernel) == TokenForm::kHalves || !can_run(kernel, problem).ok()) continue;
    ABQ_ASSIGN_OR_RETURN(const double us, time_kernel(kernel, kind, m, arena));
    if (!best.kernel.empty() && us >= best.us) continue;
    best.kernel = linear_kernel_name(kernel);
    best.us = us;
  }
  return best;
}

}  // namespace

Result<std::vector<TunedChoice>> tune_linears(const LaunchList& list,
                                              const DeviceWeights& weights) {
  std::vector<TunedChoice> choices;
  for (const Kind& kind : kinds_of(list, weights)) {
    ABQ_ASSIGN_OR_RETURN(TokenArena arena, TokenArena::create(kind, kTunedTokens));
    const size_t first = choices.size();
    for (int64_t m = 1; m <= kTunedTokens; m *= 2) {
      ABQ_ASSIGN_OR_RETURN(TunedChoice choice, tune(kind, m, arena));
      const bool same = choices.size() > first && choices.back().kernel == choice.kernel;
      if (same) {
        choices.back().max_m = m;
        choices.back().us = choice.us;
      } else {
        choices.push_back(std::move(choice));
      }
    }
    choices.back().max_m = 0;  // and for more
  }
  return choices;
}

}  // namespace abq::runtime::cuda
