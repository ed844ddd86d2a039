// What the passes of this folder share about blocks and their linear layers.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "compute/compensated_rounding.h"
#include "ir/graph.h"
#include "quant/scheme.h"
#include "support/matrix_view.h"
#include "support/status.h"

namespace abq::passes {

// Indices into nodes of the Linear nodes, in order.
std::vector<int> linear_nodes(const ir::Region& region);
// Indices into nodes of the BitLinear nodes, in order.
std::vector<int> bit_linear_nodes(const ir::Region& region);

// Outputs N and inputs K of the weight (or codes) operand of a linear.
struct LinearShape {
  int64_t n = 0;
  int64_t k = 0;
};
LinearShape linear_shape(const ir::Region& region, const ir::Node& node);

// True when another decoder block follows this one.
bool feeds_another(const ir::Module& module, const ir::Block& block);

// compute's form of a weight quantizer.
compute::WeightQuantizer weight_quantizer(const quant::WeightSpec& spec);

// Names of all tensors that a region's nodes refer to, each once.
std::vector<std::string> referenced_tensors(const ir::Region& region);
// True when a region other than `region` refers to the tensor.
bool used_elsewhere(const ir::Module& module, const ir::Region& region, const std::string& tensor);
// Lets go of the bytes of tensors that only this region names, for whoever is done with it.
void free_tensors(ir::Module& module, const ir::Region& region);
// A module of this region alone, with its tensors' handles.
ir::Module extract_region(const ir::Module& module, const ir::Region& region);

// The float weight behind `value` as float32; its file pages are let go. InvalidArgument names the
// tensor when it has no data, and the element when one is NaN or Inf.
Result<std::vector<float>> load_finite_weight(const ir::Module& module, const ir::Region& region,
                                              ir::ValueId value);
// Loads the float weight behind `value`, [N, K] or [K] as one row, lets `change` work on it and
// stores what came of it as f32. Errors of load_finite_weight; InvalidArgument, too, when the
// result is beyond float32.
Status change_weight(ir::Module& module, ir::Region& region, ir::ValueId value,
                     const std::function<void(MatrixView<float>)>& change);
// Index of the first NaN or Inf.
std::optional<size_t> first_non_finite(std::span<const float> values);

}  // namespace abq::passes
