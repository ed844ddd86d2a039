// Activation memory: buffers that are never live together share a slot.
#pragma once

#include <vector>

#include "proto/plan.pb.h"

namespace abq::backend {

// Gives every buffer a slot. Steps run in order; a buffer is live from the step that writes it to
// the last one that reads it, both included, so that no step writes over what it reads. Slots hold
// buffers of one kind; the last step's output (the logits) lives on to the end.
void plan_slots(const std::vector<proto::Step>& steps, std::vector<proto::Buffer>* buffers);

}  // namespace abq::backend
