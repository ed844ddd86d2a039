// Norm weights folded into the linears that read them: what is left of a norm commutes with every
// rotation of its channels.
#pragma once

#include "ir/graph.h"
#include "support/status.h"

namespace abq::passes {

// rms_norm(x, g), linear(., w)  ==>  rms_norm(x, 1), linear(., w * g over columns): f32 weights.
// Every norm that linears with weights of their own alone read (ir::find_norm_sites); one whose
// weights are all 1 stays as it is, and so do its linears. One weight at a time is held as float32.
Status fold_norms(ir::Module& module, ir::Region& region);

}  // namespace abq::passes
