#include "passes/pass.h"

namespace abq::passes {

quant::LayerReport* PassContext::find_layer_report(std::string_view name) {
  // Layers are added in block order, so the one asked for is near the end.
  for (auto row = report.layers.rbegin(); row != report.layers.rend(); ++row)
    if (row->name == name) return &*row;
  return nullptr;
}

compute::TensorDevice& PassContext::tensors() {
  if (!tensor_device) tensor_device = compute::create_cpu_tensor_device();
  return *tensor_device;
}

void PassContext::finish_block() {
  if (!float_outputs.empty()) float_stream = std::move(float_outputs);
  float_outputs = {};
  quantized_outputs = {};
  input_statistics.clear();
  layer_clips.clear();
  quality_inputs.clear();
  float_block.reset();
}

}  // namespace abq::passes
