// Causal attention over the KV cache. New keys and values go into the cache first and are read back
// from it, quantized as stored: a result does not depend on how a prompt is cut into chunks.
#include <algorithm>

#include "compute/device.h"
#include "quant/affine.h"
#include "runtime/cpu_steps/factories.h"
#include "support/parallel.h"

namespace abq::runtime {
namespace {

class AttentionStep : public PreparedStep {
 public:
  explicit AttentionStep(const proto::Step& step)
      : step_(step.attention()),
        query_(step.inputs(0)),
        key_(step.inputs(1)),
        value_(step.inputs(2)),
        output_(step.output()) {
    shape_.heads = static_cast<int>(step_.heads());
    shape_.kv_heads = static_cast<int>(step_.kv_heads());
    shape_.head_dim = static_cast<int>(step_.head_dim());
    shape_.window = step_.window();
  }

  void run(StepContext& context) const override {
    KvCache& cache = (*context.caches)[step_.layer()];
    AttentionScratch& scratch = *context.attention;
    cache.keys.write(context.position, context.buffers->floats(key_, context.m));
    cache.values.write(context.position, context.buffers->floats(value_, context.m));

    const int64_t tokens = context.position + context.m;
    const MatrixView<const float> keys = cache.keys.read(tokens, scratch.keys);
    const MatrixView<const float> values = cache.values.read(tokens, scratch.values);
    const MatrixView<const float> queries =
        quantized_queries(context.buffers->floats(query_, context.m), scratch.queries);
    compute::cpu_device().attention(shape_, queries, keys, values, context.position,
                                    context.buffers->floats(output_, context.m));
  }
  std::string kernel_name(int64_t m) const override {
    return m == 1 ? "cpu.attention_decode" : "cpu.attention_prefill";
  }

 private:
  // Each head of each token is a row of its own.
  MatrixView<const float> quantized_queries(MatrixView<const float> q,
                                            std::vector<float>& scratch) const {
    if (step_.query_bits() >= 16) return q;
    constexpr int64_t kTokensPerTask = 16;
    scratch.resize(std::max(scratch.size(), static_cast<size_t>(q.rows * q.cols)));
    parallel_for((q.rows + kTokensPerTask - 1) / kTokensPerTask, [&](int64_t task) {
      const int64_t first = task * kTokensPerTask;
      const int64_t count = std::min(kTokensPerTask, q.rows - first);
      float* rows = scratch.data() + first * q.cols;
      std::copy_n(q.row(first), count * q.cols, rows);
      quant::fake_quantize_tokens({rows, count * shape_.heads, shape_.head_dim},
                                  static_cast<int>(step_.query_bits()));
    });
    return {scratch.data(), q.rows, q.cols};
  }

  proto::Step::Attention step_;
  compute::AttentionShape shape_;
  uint32_t query_;
  uint32_t key_;
  uint32_t value_;
  uint32_t output_;
};

}  // namespace

Result<std::unique_ptr<PreparedStep>> make_attention(const LoadedPlan&, const proto::Step& step) {
  return std::unique_ptr<PreparedStep>(std::make_unique<AttentionStep>(step));
}

}  // namespace abq::runtime
