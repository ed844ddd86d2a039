// A loaded plan as plain structs (runtime/program.h), which point into the plan's mapped blobs.
#pragma once

#include <memory>

#include "runtime/plan.h"
#include "runtime/program.h"

namespace abq::runtime {

// The parts of a plan that more than one device prepares steps from. The plan reader has checked
// indices, types and shapes.
compute::FloatMatrix blob_matrix(const LoadedPlan& plan, uint32_t blob);  // a vector is one row
StoredWeights stored_weights(const LoadedPlan& plan, const proto::QuantizedWeights& weights);

// The program holds the plan: its pointers stay valid as long as it lives. release_step lets the
// mapped pages of a step's weights go.
Program make_program(std::shared_ptr<const LoadedPlan> plan);

}  // namespace abq::runtime
