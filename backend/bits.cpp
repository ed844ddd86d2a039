#include <set>

#include "backend/backend.h"
#include "proto/artifact_format.h"
#include "quant/gemm_variants.h"
#include "quant/packed_layout.h"

namespace abq::backend {
namespace {

uint64_t padded(uint64_t size) {
  return (size + proto::kBlobAlignment - 1) / proto::kBlobAlignment * proto::kBlobAlignment;
}

// Bytes of one entry of a repeated message field: tag (one byte for our field numbers), length,
// body.
template <class Message>
uint64_t record_bytes(const Message& message) {
  const uint64_t body = message.ByteSizeLong();
  uint64_t length = 1;
  for (uint64_t rest = body >> 7; rest != 0; rest >>= 7)
    ++length;
  return 1 + length + body;
}

// The blobs that a linear's weights consist of; the first one has the shape [N, K].
std::vector<uint32_t> linear_blobs(const proto::Step& step) {
  if (step.has_linear()) return {step.linear().weight()};
  if (!step.has_bit_linear()) return {};
  const proto::QuantizedWeights& weights = step.bit_linear().weights();
  return {weights.codes(), weights.scales(), weights.zeros()};
}

// Varints of 2 and 5 bytes: plans of up to 16,384 blobs and files of 34 GB.
constexpr uint32_t kLongIndex = (1u << 14) - 1;
constexpr uint64_t kLongOffset = (uint64_t{1} << 35) - 1;

// A blob and its record.
uint64_t planned_blob_bytes(const std::string& name, int64_t rows, int64_t cols, uint64_t size,
                            int code_bits) {
  proto::Blob blob;
  blob.set_name(name);
  blob.set_type(proto::U8);
  blob.add_shape(rows);
  blob.add_shape(cols);
  blob.set_offset(kLongOffset);
  blob.set_size(size);
  blob.set_checksum(1);
  blob.set_code_bits(static_cast<uint32_t>(code_bits));
  return padded(size) + record_bytes(blob);
}

proto::Step planned_step(const std::string& name) {
  proto::Step step;
  step.set_name(name);
  step.add_inputs(kLongIndex);
  step.set_output(kLongIndex);
  return step;
}

uint64_t planned_float_bytes(const PlannedLinear& linear) {
  proto::Step step = planned_step(linear.node);
  step.mutable_linear()->set_weight(kLongIndex);
  const auto size =
      static_cast<uint64_t>(ir::byte_size({linear.float_element, 0, {linear.n, linear.k}}));
  return record_bytes(step) + planned_blob_bytes(linear.weight, linear.n, linear.k, size, 0);
}

}  // namespace

Result<int64_t> planned_linear_bytes(const PlannedLinear& linear, const quant::Scheme& scheme) {
  const quant::WeightSpec& spec = scheme.weights;
  if (!spec.quantized()) return static_cast<int64_t>(planned_float_bytes(linear));
  ABQ_ASSIGN_OR_RETURN(const quant::GemmFamily family,
                       quant::select_gemm({spec, scheme.activation_bits, linear.n, linear.k}));
  proto::Step step = planned_step(linear.node);
  proto::Step::BitLinear& bit_linear = *step.mutable_bit_linear();
  bit_linear.set_activation_bits(static_cast<uint32_t>(scheme.activation_bits));
  bit_linear.set_kernel(std::string(quant::gemm_family_name(family)));
  proto::QuantizedWeights& weights = *bit_linear.mutable_weights();
  weights.set_codes(kLongIndex);
  weights.set_scales(kLongIndex);
  weights.set_zeros(kLongIndex);
  weights.set_bits(static_cast<uint32_t>(spec.bits));
  weights.set_balanced(spec.balanced);
  weights.set_group_size(static_cast<uint32_t>(spec.group_size));
  weights.set_symmetric(spec.symmetric);
  const auto layout = quant::PackedLayout::for_weights(spec, linear.n, linear.k);
  const int64_t groups = spec.groups(linear.k);
  const auto grids = static_cast<uint64_t>(linear.n * groups);
  return static_cast<int64_t>(
      record_bytes(step) +
      planned_blob_bytes(linear.weight + ".codes", linear.n, linear.k,
                         static_cast<uint64_t>(layout.total_bytes()), layout.code_bits) +
      planned_blob_bytes(linear.weight + ".scales", linear.n, groups, grids * sizeof(float), 0) +
      planned_blob_bytes(linear.weight + ".zeros", linear.n, groups, grids, 0));
}

double block_linear_bits(const proto::Plan& plan) {
  uint64_t bytes = 0;
  int64_t weights = 0;
  std::set<uint32_t> seen;
  // The last step makes the logits: the head is no block linear.
  for (int i = 0; i + 1 < plan.steps_size(); ++i) {
    const std::vector<uint32_t> blobs = linear_blobs(plan.steps(i));
    if (blobs.empty()) continue;
    bytes += record_bytes(plan.steps(i));
    if (const proto::Blob& first = plan.blobs(static_cast<int>(blobs[0]));
        !seen.contains(blobs[0])) {
      weights += first.shape(0) * first.shape(1);
    }
    for (const uint32_t index : blobs) {
      if (!seen.insert(index).second) continue;
      const proto::Blob& blob = plan.blobs(static_cast<int>(index));
      bytes += padded(blob.size()) + record_bytes(blob);
    }
  }
  return weights == 0 ? 0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(weights);
}

double file_bits(const proto::Plan& plan, int64_t file_size) {
  const int64_t weights = plan.model().weights();
  return weights == 0 ? 0 : 8.0 * static_cast<double>(file_size) / static_cast<double>(weights);
}

}  // namespace abq::backend
