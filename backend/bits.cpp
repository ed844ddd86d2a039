#include <set>

#include "backend/backend.h"
#include "proto/artifact_format.h"

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

}  // namespace

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
