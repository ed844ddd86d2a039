// Steps on float32 activations: each is a call of the compute device.
#include <algorithm>

#include "compute/device.h"
#include "runtime/cpu_steps/factories.h"
#include "runtime/plan_program.h"

namespace abq::runtime {
namespace {

const compute::Device& device() {
  return compute::cpu_device();
}

std::vector<float> blob_floats(const LoadedPlan& plan, uint32_t index) {
  const compute::FloatMatrix matrix = blob_matrix(plan, index);
  std::vector<float> values(static_cast<size_t>(matrix.rows * matrix.cols));
  compute::to_float(matrix.type, matrix.data, matrix.rows * matrix.cols, values.data());
  return values;
}

class EmbeddingStep : public PreparedStep {
 public:
  EmbeddingStep(const LoadedPlan& plan, const proto::Step& step)
      : table_(blob_matrix(plan, step.embedding().table())), output_(step.output()) {}

  void run(StepContext& context) const override {
    const MatrixView<float> y = context.buffers->floats(output_, context.m);
    const int64_t row_bytes = table_.cols * compute::float_type_bytes(table_.type);
    for (int64_t r = 0; r < context.m; ++r) {
      const auto* row = static_cast<const std::byte*>(table_.data) +
                        context.tokens[static_cast<size_t>(r)] * row_bytes;
      compute::to_float(table_.type, row, table_.cols, y.row(r));
    }
  }
  std::string kernel_name(int64_t) const override { return "cpu.embedding"; }

 private:
  compute::FloatMatrix table_;
  uint32_t output_;
};

class RmsNormStep : public PreparedStep {
 public:
  RmsNormStep(const LoadedPlan& plan, const proto::Step& step)
      : weight_(blob_floats(plan, step.rms_norm().weight())),
        eps_(step.rms_norm().eps()),
        input_(step.inputs(0)),
        output_(step.output()) {}

  void run(StepContext& context) const override {
    device().rms_norm(context.buffers->floats(input_, context.m), weight_.data(), eps_,
                      context.buffers->floats(output_, context.m));
  }
  int64_t weight_bytes() const override {
    return static_cast<int64_t>(weight_.size() * sizeof(float));
  }
  std::string kernel_name(int64_t) const override { return "cpu.rms_norm"; }

 private:
  std::vector<float> weight_;
  float eps_;
  uint32_t input_;
  uint32_t output_;
};

class LinearStep : public PreparedStep {
 public:
  LinearStep(const LoadedPlan& plan, const proto::Step& step)
      : weight_(blob_matrix(plan, step.linear().weight())),
        input_(step.inputs(0)),
        output_(step.output()) {}

  void run(StepContext& context) const override {
    device().linear(context.buffers->floats(input_, context.m), weight_,
                    context.buffers->floats(output_, context.m));
  }
  int64_t weight_bytes() const override {
    return weight_.rows * weight_.cols * compute::float_type_bytes(weight_.type);
  }
  std::string kernel_name(int64_t m) const override {
    return m == 1 ? "cpu.float_gemv" : "cpu.float_gemm";
  }

 private:
  compute::FloatMatrix weight_;
  uint32_t input_;
  uint32_t output_;
};

class RopeStep : public PreparedStep {
 public:
  RopeStep(const LoadedPlan& plan, const proto::Step& step)
      : frequencies_(blob_floats(plan, step.rope().frequencies())),
        head_dim_(static_cast<int>(step.rope().head_dim())),
        input_(step.inputs(0)),
        output_(step.output()) {}

  void run(StepContext& context) const override {
    const MatrixView<float> x = context.buffers->floats(input_, context.m);
    const MatrixView<float> y = context.buffers->floats(output_, context.m);
    if (y.data != x.data) std::copy_n(x.data, x.rows * x.cols, y.data);
    std::vector<int64_t> positions(static_cast<size_t>(context.m));
    for (size_t r = 0; r < positions.size(); ++r) {
      positions[r] = context.position + static_cast<int64_t>(r);
    }
    device().rope(y, head_dim_, positions.data(), frequencies_.data());
  }
  std::string kernel_name(int64_t) const override { return "cpu.rope"; }

 private:
  std::vector<float> frequencies_;
  int head_dim_;
  uint32_t input_;
  uint32_t output_;
};

class HadamardStep : public PreparedStep {
 public:
  HadamardStep(const LoadedPlan&, const proto::Step& step)
      : size_(step.hadamard().size()), input_(step.inputs(0)), output_(step.output()) {}

  void run(StepContext& context) const override {
    const MatrixView<float> x = context.buffers->floats(input_, context.m);
    const MatrixView<float> y = context.buffers->floats(output_, context.m);
    if (y.data != x.data) std::copy_n(x.data, x.rows * x.cols, y.data);
    device().hadamard(y, size_, false);
  }
  std::string kernel_name(int64_t) const override { return "cpu.hadamard"; }

 private:
  int64_t size_;
  uint32_t input_;
  uint32_t output_;
};

class SiluMulStep : public PreparedStep {
 public:
  SiluMulStep(const LoadedPlan&, const proto::Step& step)
      : gate_(step.inputs(0)), up_(step.inputs(1)), output_(step.output()) {}

  void run(StepContext& context) const override {
    device().silu_mul(context.buffers->floats(gate_, context.m),
                      context.buffers->floats(up_, context.m),
                      context.buffers->floats(output_, context.m));
  }
  std::string kernel_name(int64_t) const override { return "cpu.silu_mul"; }

 private:
  uint32_t gate_;
  uint32_t up_;
  uint32_t output_;
};

class AddStep : public PreparedStep {
 public:
  AddStep(const LoadedPlan&, const proto::Step& step)
      : a_(step.inputs(0)), b_(step.inputs(1)), output_(step.output()) {}

  void run(StepContext& context) const override {
    device().add(context.buffers->floats(a_, context.m), context.buffers->floats(b_, context.m),
                 context.buffers->floats(output_, context.m));
  }
  std::string kernel_name(int64_t) const override { return "cpu.add"; }

 private:
  uint32_t a_;
  uint32_t b_;
  uint32_t output_;
};

template <class Step>
Result<std::unique_ptr<PreparedStep>> make(const LoadedPlan& plan, const proto::Step& step) {
  return std::unique_ptr<PreparedStep>(std::make_unique<Step>(plan, step));
}

}  // namespace

Result<std::unique_ptr<PreparedStep>> make_embedding(const LoadedPlan& plan,
                                                     const proto::Step& step) {
  return make<EmbeddingStep>(plan, step);
}
Result<std::unique_ptr<PreparedStep>> make_rms_norm(const LoadedPlan& plan,
                                                    const proto::Step& step) {
  return make<RmsNormStep>(plan, step);
}
Result<std::unique_ptr<PreparedStep>> make_linear(const LoadedPlan& plan, const proto::Step& step) {
  return make<LinearStep>(plan, step);
}
Result<std::unique_ptr<PreparedStep>> make_rope(const LoadedPlan& plan, const proto::Step& step) {
  return make<RopeStep>(plan, step);
}
Result<std::unique_ptr<PreparedStep>> make_hadamard(const LoadedPlan& plan,
                                                    const proto::Step& step) {
  return make<HadamardStep>(plan, step);
}
Result<std::unique_ptr<PreparedStep>> make_silu_mul(const LoadedPlan& plan,
                                                    const proto::Step& step) {
  return make<SiluMulStep>(plan, step);
}
Result<std::unique_ptr<PreparedStep>> make_add(const LoadedPlan& plan, const proto::Step& step) {
  return make<AddStep>(plan, step);
}

}  // namespace abq::runtime
