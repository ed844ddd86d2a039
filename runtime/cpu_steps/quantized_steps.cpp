// Steps on quantized activations and weights.
#include <algorithm>

#include "compute/device.h"
#include "runtime/cpu/aligned_buffer.h"
#include "runtime/cpu/quantized_linear.h"
#include "runtime/cpu_steps/factories.h"
#include "runtime/plan_program.h"

namespace abq::runtime {
namespace {

// Whether a kernel that reads these tokens needs them as bit planes.
bool planes_are_read(const proto::Plan& plan, uint32_t buffer) {
  const std::string_view bits = quant::gemm_family_name(quant::GemmFamily::kBits);
  return std::any_of(plan.steps().begin(), plan.steps().end(), [&](const proto::Step& step) {
    return step.has_bit_linear() && step.inputs(0) == buffer && step.bit_linear().kernel() == bits;
  });
}

class QuantizeTokensStep : public PreparedStep {
 public:
  QuantizeTokensStep(const proto::Plan& plan, const proto::Step& step)
      : bits_(static_cast<int>(step.quantize_tokens().bits())),
        input_(step.inputs(0)),
        output_(step.output()),
        with_planes_(planes_are_read(plan, output_)) {}

  void run(StepContext& context) const override {
    pack_tokens(context.buffers->floats(input_, context.m), bits_, context.buffers->tokens(output_),
                cpu_isa(), with_planes_);
  }
  std::string kernel_name(int64_t) const override { return "cpu.quantize_tokens"; }

 private:
  int bits_;
  uint32_t input_;
  uint32_t output_;
  bool with_planes_;
};

// A transform whose values only its quantization reads: no row of them reaches memory.
class HadamardQuantizeStep : public PreparedStep {
 public:
  HadamardQuantizeStep(const proto::Plan& plan, const proto::Step& transform,
                       const proto::Step& quantize)
      : size_(transform.hadamard().size()),
        bits_(static_cast<int>(quantize.quantize_tokens().bits())),
        input_(transform.inputs(0)),
        output_(quantize.output()),
        with_planes_(planes_are_read(plan, output_)) {}

  void run(StepContext& context) const override {
    const MatrixView<const float> x = context.buffers->floats(input_, context.m);
    const auto transformed = [&](int64_t token) -> const float* {
      thread_local AlignedBuffer<float> row;
      row.resize(x.cols);
      std::copy_n(x.row(token), x.cols, row.data());
      compute::cpu_device().hadamard({row.data(), 1, x.cols}, size_, false);
      return row.data();
    };
    pack_tokens(context.m, x.cols, transformed, bits_, context.buffers->tokens(output_), cpu_isa(),
                with_planes_);
  }
  std::string kernel_name(int64_t) const override { return "cpu.hadamard_quantize"; }

 private:
  int64_t size_;
  int bits_;
  uint32_t input_;
  uint32_t output_;
  bool with_planes_;
};

class BitLinearStep : public PreparedStep {
 public:
  BitLinearStep(std::unique_ptr<QuantizedLinear> linear, const proto::Step& step)
      : linear_(std::move(linear)),
        weight_only_(step.bit_linear().activation_bits() >= 16),
        input_(step.inputs(0)),
        output_(step.output()) {}

  void run(StepContext& context) const override {
    const MatrixView<float> y = context.buffers->floats(output_, context.m);
    if (weight_only_) {
      linear_->run_float(context.buffers->floats(input_, context.m), y);
    } else {
      linear_->run(context.buffers->tokens(input_), y);
    }
  }
  int64_t weight_bytes() const override { return linear_->resident_bytes(); }
  std::string kernel_name(int64_t m) const override { return std::string(linear_->kernel_name(m)); }

 private:
  std::unique_ptr<QuantizedLinear> linear_;
  bool weight_only_;
  uint32_t input_;
  uint32_t output_;
};

}  // namespace

Result<std::unique_ptr<PreparedStep>> make_quantize_tokens(const LoadedPlan& plan,
                                                           const proto::Step& step) {
  return std::unique_ptr<PreparedStep>(std::make_unique<QuantizeTokensStep>(plan.plan(), step));
}

Result<std::unique_ptr<PreparedStep>> make_hadamard_quantize(const LoadedPlan& plan,
                                                             const proto::Step& step) {
  const auto& steps = plan.plan().steps();
  const auto quantize = std::find_if(steps.begin(), steps.end(), [&](const proto::Step& reader) {
    return reader.has_quantize_tokens() && reader.inputs(0) == step.output();
  });
  ABQ_CHECK(quantize != steps.end());
  return std::unique_ptr<PreparedStep>(
      std::make_unique<HadamardQuantizeStep>(plan.plan(), step, *quantize));
}

Result<std::unique_ptr<PreparedStep>> make_bit_linear(const LoadedPlan& plan,
                                                      const proto::Step& step) {
  const StoredWeights stored = stored_weights(plan, step.bit_linear().weights());
  ABQ_ASSIGN_OR_RETURN(const quant::GemmFamily family,
                       quant::parse_gemm_family(step.bit_linear().kernel()));
  Result<std::unique_ptr<QuantizedLinear>> linear = QuantizedLinear::prepare(
      stored, static_cast<int>(step.bit_linear().activation_bits()), cpu_isa(), family);
  if (!linear.ok()) return linear.status().with_context(step.name());
  return std::unique_ptr<PreparedStep>(
      std::make_unique<BitLinearStep>(std::move(linear).value(), step));
}

}  // namespace abq::runtime
