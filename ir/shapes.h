// What each op asks of the types of its operands, its attributes and its result.
#pragma once

#include "ir/graph.h"

namespace abq::ir {

// Ok, or InvalidArgument with the detail ("x is f32[T, 64], expected f32[T, 128]"). The node must
// have the operands and attributes of the op table, all operands values of `region`.
Status check_types(const Module& module, const Region& region, const Node& node);

}  // namespace abq::ir
