#include "passes/pass.h"

namespace abq::passes {

quant::LayerReport* PassContext::find_layer_report(std::string_view name) {
  // Layers are added in block order, so the one asked for is near the end.
  for (auto row = report.layers.rbegin(); row != report.layers.rend(); ++row)
    if (row->name == name) return &*row;
  return nullptr;
}

void PassContext::forget_block() {
  input_statistics.clear();
  quality_inputs.clear();
  float_block.reset();
}

}  // namespace abq::passes
