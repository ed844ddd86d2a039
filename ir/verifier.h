// The IR's law: a list of rules, each with its own sentence.
#pragma once

#include "ir/graph.h"

namespace abq::ir {

// Ok, or InvalidArgument naming region, node and the broken rule (the first few, joined by
// newlines).
Status verify(const Module& module);

}  // namespace abq::ir
