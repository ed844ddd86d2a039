#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "compute/hadamard.h"
#include "quant/packed_layout.h"
#include "quant/scheme.h"
#include "runtime/plan_checks.h"

namespace abq::runtime {
namespace {

using Types = std::initializer_list<proto::ElementType>;

const Types kFloatTypes = {proto::F32, proto::F16, proto::BF16};
const Types kFloat32 = {proto::F32};
const Types kCodeTypes = {proto::PLANES, proto::BASE5, proto::BASE3};

// One operation with its surroundings; each operation has a member function below.
class OperationCheck {
 public:
  OperationCheck(const proto::Plan& plan, const proto::Step& step,
                 std::vector<BlobContents>* contents)
      : plan_(plan), step_(step), contents_(contents) {}

  Status embedding(const proto::Step::Embedding& operation) const;
  Status rms_norm(const proto::Step::RmsNorm& operation) const;
  Status linear(const proto::Step::Linear& operation) const;
  Status quantize_tokens(const proto::Step::QuantizeTokens& operation) const;
  Status bit_linear(const proto::Step::BitLinear& operation);
  Status rope(const proto::Step::Rope& operation);
  Status attention(const proto::Step::Attention& operation) const;
  Status hadamard(const proto::Step::Hadamard& operation) const;
  Status elementwise(int inputs) const;

 private:
  const proto::Buffer& input(int i) const {
    return plan_.buffers(static_cast<int>(step_.inputs(i)));
  }
  const proto::Buffer& output() const { return plan_.buffers(static_cast<int>(step_.output())); }

  // So many inputs; all of them and the output float32, unless said otherwise.
  Status check_buffers(int inputs, proto::Buffer::Kind input_kind = proto::Buffer::FLOAT,
                       proto::Buffer::Kind output_kind = proto::Buffer::FLOAT) const;
  Status check_columns(std::string_view subject, int64_t columns, int64_t expected) const;
  Status check_blob(std::string_view role, uint32_t blob, Types types,
                    std::initializer_list<int64_t> shape) const;
  Status check_codes(const proto::QuantizedWeights& weights, const quant::WeightSpec& spec) const;

  const proto::Plan& plan_;
  const proto::Step& step_;
  std::vector<BlobContents>* contents_;
};

std::string_view kind_name(proto::Buffer::Kind kind) {
  return kind == proto::Buffer::FLOAT ? "float32" : "quantized tokens";
}

Status OperationCheck::check_buffers(int inputs, proto::Buffer::Kind input_kind,
                                     proto::Buffer::Kind output_kind) const {
  if (step_.inputs_size() != inputs)
    return corrupt("has {} inputs, expected {}", step_.inputs_size(), inputs);
  for (int i = 0; i < inputs; ++i) {
    if (input(i).kind() != input_kind) {
      return corrupt("input {} is buffer {} of {}, expected {}", i, step_.inputs(i),
                     kind_name(input(i).kind()), kind_name(input_kind));
    }
  }
  if (output().kind() != output_kind) {
    return corrupt("output is buffer {} of {}, expected {}", step_.output(),
                   kind_name(output().kind()), kind_name(output_kind));
  }
  return {};
}

Status OperationCheck::check_columns(std::string_view subject, int64_t columns,
                                     int64_t expected) const {
  if (columns == expected) return {};
  return corrupt("{} has {} columns, expected {}", subject, columns, expected);
}

Status OperationCheck::check_blob(std::string_view role, uint32_t blob, Types types,
                                  std::initializer_list<int64_t> shape) const {
  if (blob >= static_cast<uint32_t>(plan_.blobs_size()))
    return corrupt("{} is blob {}, but there are {} blobs", role, blob, plan_.blobs_size());
  const proto::Blob& record = plan_.blobs(static_cast<int>(blob));
  const bool fits =
      std::find(types.begin(), types.end(), record.type()) != types.end() &&
      std::equal(shape.begin(), shape.end(), record.shape().begin(), record.shape().end());
  if (fits) return {};
  std::string expected;
  for (const proto::ElementType type : types)
    expected += (expected.empty() ? "" : " or ") + proto::ElementType_Name(type);
  return corrupt("{} is {}, a {}, expected {} of [{}]", role,
                 blob_label(plan_, static_cast<int>(blob)), describe(record), expected,
                 fmt::join(shape, ", "));
}

Status OperationCheck::embedding(const proto::Step::Embedding& operation) const {
  ABQ_RETURN_IF_ERROR(check_buffers(0));
  return check_blob("table", operation.table(), kFloatTypes,
                    {plan_.model().vocab_size(), output().columns()});
}

Status OperationCheck::rms_norm(const proto::Step::RmsNorm& operation) const {
  ABQ_RETURN_IF_ERROR(elementwise(1));
  if (!std::isfinite(operation.eps()) || operation.eps() < 0)
    return corrupt("eps is {}, expected a finite number of at least 0", operation.eps());
  return check_blob("weight", operation.weight(), kFloatTypes, {output().columns()});
}

Status OperationCheck::linear(const proto::Step::Linear& operation) const {
  ABQ_RETURN_IF_ERROR(check_buffers(1));
  return check_blob("weight", operation.weight(), kFloatTypes,
                    {output().columns(), input(0).columns()});
}

Status OperationCheck::quantize_tokens(const proto::Step::QuantizeTokens& operation) const {
  ABQ_RETURN_IF_ERROR(check_buffers(1, proto::Buffer::FLOAT, proto::Buffer::TOKENS));
  ABQ_RETURN_IF_ERROR(check_columns("output", output().columns(), input(0).columns()));
  if (operation.bits() != output().bits()) {
    return corrupt("quantizes to {} bits, its output holds {}", operation.bits(), output().bits());
  }
  return {};
}

Result<quant::WeightSpec> checked_spec(const proto::QuantizedWeights& weights, int64_t k) {
  const uint32_t highest = weights.balanced() ? 2 : 8;
  if (weights.bits() < 1 || weights.bits() > highest) {
    return corrupt("weights have {} bits, expected 1 to {}{}", weights.bits(), highest,
                   weights.balanced() ? " with bit balance" : "");
  }
  // Compared as stored, before it becomes a signed number.
  if (weights.group_size() > k || (weights.group_size() != 0 && k % weights.group_size() != 0))
    return corrupt("group size {} does not divide K={}", weights.group_size(), k);
  const quant::WeightSpec spec = weight_spec(weights);
  if (const Status status = quant::check_weight_spec(spec, k); !status.ok())
    return corrupt("{}", status.message());
  return spec;
}

// Dense codes belong to one width each; planes hold any.
Status OperationCheck::check_codes(const proto::QuantizedWeights& weights,
                                   const quant::WeightSpec& spec) const {
  ABQ_RETURN_IF_ERROR(
      check_blob("codes", weights.codes(), kCodeTypes, {output().columns(), input(0).columns()}));
  const proto::Blob& codes = plan_.blobs(static_cast<int>(weights.codes()));
  const bool dense = codes.type() != proto::PLANES;
  const int levels = codes.type() == proto::BASE5 ? 5 : 3;
  if (dense ? spec.levels() != levels || !spec.balanced
            : static_cast<int>(codes.code_bits()) != spec.code_bits()) {
    return corrupt("codes are a {}, which cannot hold w{}{} ({} levels)", describe(codes),
                   spec.bits, spec.balanced ? "b" : "", spec.levels());
  }
  return {};
}

Status OperationCheck::bit_linear(const proto::Step::BitLinear& operation) {
  const uint32_t bits = operation.activation_bits();
  if ((bits < 1 || bits > 8) && bits != 16)
    return corrupt("activations have {} bits, expected 1 to 8, or 16", bits);
  ABQ_RETURN_IF_ERROR(check_buffers(1, bits == 16 ? proto::Buffer::FLOAT : proto::Buffer::TOKENS));
  if (bits != 16 && input(0).bits() != bits)
    return corrupt("reads activations of {} bits, its input holds {}", bits, input(0).bits());
  if (operation.kernel().empty()) return corrupt("names no kernel");
  const int64_t n = output().columns();
  const int64_t k = input(0).columns();
  const proto::QuantizedWeights& weights = operation.weights();
  ABQ_ASSIGN_OR_RETURN(const quant::WeightSpec spec, checked_spec(weights, k));
  ABQ_RETURN_IF_ERROR(check_codes(weights, spec));
  ABQ_RETURN_IF_ERROR(check_blob("scales", weights.scales(), kFloat32, {n, spec.groups(k)}));
  ABQ_RETURN_IF_ERROR(check_blob("zeros", weights.zeros(), {proto::U8}, {n, spec.groups(k)}));
  (*contents_)[weights.scales()].positive_floats = true;
  int& max_zero = (*contents_)[weights.zeros()].max_byte;
  max_zero = std::min(max_zero, spec.levels() - 1);
  return {};
}

Status OperationCheck::rope(const proto::Step::Rope& operation) {
  ABQ_RETURN_IF_ERROR(elementwise(1));
  const int64_t head_dim = operation.head_dim();
  if (head_dim < 2 || head_dim % 2 != 0 || output().columns() % head_dim != 0) {
    return corrupt("head dimension {} is not an even number that divides {} columns", head_dim,
                   output().columns());
  }
  ABQ_RETURN_IF_ERROR(check_blob("frequencies", operation.frequencies(), kFloat32, {head_dim / 2}));
  (*contents_)[operation.frequencies()].positive_floats = true;
  return {};
}

bool state_bits_fit(uint32_t bits) {
  return (bits >= 2 && bits <= 8) || bits == 16;
}

Status OperationCheck::attention(const proto::Step::Attention& operation) const {
  ABQ_RETURN_IF_ERROR(check_buffers(3));
  const int64_t heads = operation.heads();
  const int64_t kv_heads = operation.kv_heads();
  const int64_t head_dim = operation.head_dim();
  // All three were uint32, so that products of two stay within int64 after this bound.
  if (heads < 1 || kv_heads < 1 || head_dim < 1 || heads % kv_heads != 0) {
    return corrupt(
        "{} heads, {} key/value heads, head dimension {}: expected positive numbers and "
        "whole groups of heads",
        heads, kv_heads, head_dim);
  }
  if (heads > kMaxDimension / head_dim)
    return corrupt("{} heads of {} are more than {} columns", heads, head_dim, kMaxDimension);
  ABQ_RETURN_IF_ERROR(check_columns("query", input(0).columns(), heads * head_dim));
  ABQ_RETURN_IF_ERROR(check_columns("key", input(1).columns(), kv_heads * head_dim));
  ABQ_RETURN_IF_ERROR(check_columns("value", input(2).columns(), kv_heads * head_dim));
  ABQ_RETURN_IF_ERROR(check_columns("output", output().columns(), heads * head_dim));
  if (!state_bits_fit(operation.query_bits()) || !state_bits_fit(operation.kv_bits())) {
    return corrupt("query has {} bits and the cache {}, expected 2 to 8, or 16",
                   operation.query_bits(), operation.kv_bits());
  }
  return {};
}

Status OperationCheck::hadamard(const proto::Step::Hadamard& operation) const {
  ABQ_RETURN_IF_ERROR(elementwise(1));
  const int64_t size = operation.size();
  if (size < 2 || output().columns() % size != 0) {
    return corrupt("transforms {} columns at a time, expected a divisor of {} above 1", size,
                   output().columns());
  }
  if (!compute::has_hadamard(size))
    return corrupt("transforms {} columns at a time, which no Hadamard matrix has", size);
  return {};
}

Status OperationCheck::elementwise(int inputs) const {
  ABQ_RETURN_IF_ERROR(check_buffers(inputs));
  for (int i = 0; i < inputs; ++i) {
    ABQ_RETURN_IF_ERROR(
        check_columns(fmt::format("input {}", i), input(i).columns(), output().columns()));
  }
  return {};
}

}  // namespace

quant::WeightSpec weight_spec(const proto::QuantizedWeights& weights) {
  return {.bits = static_cast<int>(weights.bits()),
          .balanced = weights.balanced(),
          .group_size = static_cast<int>(weights.group_size()),
          .symmetric = weights.symmetric()};
}

Status check_operation(const proto::Plan& plan, const proto::Step& step,
                       std::vector<BlobContents>* contents) {
  OperationCheck check(plan, step, contents);
  switch (step.operation_case()) {
    case proto::Step::kEmbedding:
      return check.embedding(step.embedding());
    case proto::Step::kRmsNorm:
      return check.rms_norm(step.rms_norm());
    case proto::Step::kLinear:
      return check.linear(step.linear());
    case proto::Step::kQuantizeTokens:
      return check.quantize_tokens(step.quantize_tokens());
    case proto::Step::kBitLinear:
      return check.bit_linear(step.bit_linear());
    case proto::Step::kRope:
      return check.rope(step.rope());
    case proto::Step::kAttention:
      return check.attention(step.attention());
    case proto::Step::kHadamard:
      return check.hadamard(step.hadamard());
    case proto::Step::kSiluMul:
    case proto::Step::kAdd:
      return check.elementwise(2);
    case proto::Step::OPERATION_NOT_SET:
      break;
  }
  return unsupported("operation unknown to this build; use the abq that wrote it or a later one");
}

}  // namespace abq::runtime
