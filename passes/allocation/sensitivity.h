// What rounding one unit of layers to each width costs the whole model, in nats of KL divergence
// per token between the float model's next-token distributions and those behind the rounded unit.
//
// The unit is rounded to one width, the reference, as the method rounds, and the rest of the model
// runs behind it on a few windows: that KL is measured. At other widths it is taken to go with the
// squared error of the unit's outputs, which rounding itself knows:
//
//   KL(width) = KL(reference) * mean over layers of loss(width) / loss(reference)
//
// Products of inputs come from windows of their own, so that compensated rounding has not seen
// those that it is measured on. docs/bit_allocation.md has what predictions are worth.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "passes/pass.h"
#include "quant/scheme.h"
#include "support/status.h"

namespace abq::passes {

// Layers of one block that are rounded together, and what to.
struct SensitivityUnit {
  std::vector<std::string> layers;
  std::vector<quant::WeightSpec> specs;  // at least one; none leaves weights float
};

struct Sensitivity {
  std::vector<std::vector<double>> kl;  // nats per token, of each unit at each of its specs
  double activation_kl = 0;  // of float weights behind quantized activations and attention
  int64_t tokens = 0;        // that KLs are means over
};

// The first `measured` of context.calibration_windows are for KLs, and the others for products of
// inputs (the same where there are no others). One sweep over the blocks, on context.tensors():
// beside the float stream it carries one of `measured` windows for each unit of the blocks before,
// kept as context.stream_options says. `module` has its attention widths and the context its
// schemes (assign-schemes). InvalidArgument for a layer that is not there; errors of running a
// block, of `rotate` and of rounding, with the name of layer or region.
Result<Sensitivity> measure_sensitivity(const ir::Module& module, PassContext& context,
                                        std::span<const SensitivityUnit> units, int64_t measured);

// The index of the spec that is measured: the one nearest to 8 levels.
size_t reference_spec(std::span<const quant::WeightSpec> specs);

}  // namespace abq::passes
