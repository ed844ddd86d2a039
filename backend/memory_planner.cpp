#include "backend/memory_planner.h"

#include <algorithm>
#include <cstdlib>

namespace abq::backend {
namespace {

struct Slot {
  proto::Buffer::Kind kind;
  int64_t columns;  // the widest of its buffers so far
  int busy_until;   // last step that needs the present buffer
};

std::vector<int> last_uses(const std::vector<proto::Step>& steps, size_t buffers) {
  std::vector<int> last(buffers, -1);
  for (int i = 0; i < static_cast<int>(steps.size()); ++i) {
    const proto::Step& step = steps[static_cast<size_t>(i)];
    last[step.output()] = i;
    for (const uint32_t input : step.inputs())
      last[input] = i;
  }
  return last;
}

// The free slot whose width is nearest: a close fit keeps wide slots for wide buffers, and growing
// one a little is cheaper than opening another. Null when none is free.
Slot* nearest_free_slot(std::vector<Slot>& slots, const proto::Buffer& buffer, int step) {
  Slot* best = nullptr;
  for (Slot& slot : slots) {
    if (slot.kind != buffer.kind() || slot.busy_until >= step) continue;
    if (best == nullptr ||
        std::abs(slot.columns - buffer.columns()) < std::abs(best->columns - buffer.columns())) {
      best = &slot;
    }
  }
  return best;
}

}  // namespace

void plan_slots(const std::vector<proto::Step>& steps, std::vector<proto::Buffer>* buffers) {
  const std::vector<int> last = last_uses(steps, buffers->size());
  std::vector<Slot> slots;
  for (int i = 0; i < static_cast<int>(steps.size()); ++i) {
    const uint32_t index = steps[static_cast<size_t>(i)].output();
    proto::Buffer& buffer = (*buffers)[index];
    Slot* slot = nearest_free_slot(slots, buffer, i);
    if (slot == nullptr) slot = &slots.emplace_back(Slot{buffer.kind(), 0, -1});
    slot->columns = std::max(slot->columns, buffer.columns());
    slot->busy_until = last[index];
    buffer.set_slot(static_cast<uint32_t>(slot - slots.data()));
  }
}

}  // namespace abq::backend
