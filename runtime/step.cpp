#include "runtime/step.h"

#include <algorithm>

namespace abq::runtime {

ActivationBuffers::ActivationBuffers(const proto::Plan& plan) : plan_(plan) {
  for (const proto::Buffer& buffer : plan.buffers()) {
    if (slots_.size() <= buffer.slot()) slots_.resize(buffer.slot() + 1);
    Slot& slot = slots_[buffer.slot()];
    slot.kind = buffer.kind();
    slot.columns = std::max(slot.columns, buffer.columns());
  }
}

MatrixView<float> ActivationBuffers::floats(uint32_t buffer, int64_t m) {
  const proto::Buffer& description = plan_.buffers(static_cast<int>(buffer));
  Slot& slot = slots_[description.slot()];
  const size_t needed = static_cast<size_t>(m * slot.columns);
  if (slot.floats.size() < needed) slot.floats.resize(needed);
  return {slot.floats.data(), m, description.columns()};
}

PackedTokens& ActivationBuffers::tokens(uint32_t buffer) {
  return slots_[plan_.buffers(static_cast<int>(buffer)).slot()].tokens;
}

void ActivationBuffers::keep_last_row(uint32_t buffer, int64_t m) {
  const MatrixView<float> rows = floats(buffer, m);
  std::copy_n(rows.row(m - 1), rows.cols, rows.row(0));
}

int64_t ActivationBuffers::memory_bytes() const {
  size_t total = 0;
  for (const Slot& slot : slots_)
    total += slot.floats.capacity() * sizeof(float);
  return static_cast<int64_t>(total);
}

}  // namespace abq::runtime
