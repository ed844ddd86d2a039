#include "passes/correction/window_batches.h"

#include <vector>

namespace abq::passes {

Result<WindowBatches> WindowBatches::create(compute::TensorDevice& device,
                                            const BlockStreams& streams, bool may_stay_on_device) {
  WindowBatches batches(device, streams);
  const Stream& shape = *streams.float_input;
  const int64_t rows = shape.context();
  const int64_t bytes =
      static_cast<int64_t>(kStreams * sizeof(float)) * shape.windows() * rows * shape.hidden();
  if (!may_stay_on_device || bytes > device.free_bytes() / 4) return batches;
  std::vector<float> window(static_cast<size_t>(rows * shape.hidden()));
  for (size_t s = 0; s < kStreams; ++s) {
    batches.resident_[s] = device.allocate(shape.windows() * rows, shape.hidden());
    for (int64_t w = 0; w < shape.windows(); ++w) {
      ABQ_RETURN_IF_ERROR(batches.streams_[s]->read(w, 1, window));
      device.assign(batches.resident_[s].row_range(w * rows, rows),
                    device.upload(window, rows, shape.hidden()));
    }
  }
  ABQ_RETURN_IF_ERROR(device.status());
  return batches;
}

Result<WindowBatch> WindowBatches::load(std::span<const int64_t> windows) const {
  WindowBatch batch;
  ABQ_ASSIGN_OR_RETURN(batch.float_input, load(0, windows));
  ABQ_ASSIGN_OR_RETURN(batch.quantized_input, load(1, windows));
  ABQ_ASSIGN_OR_RETURN(batch.float_output, load(2, windows));
  ABQ_ASSIGN_OR_RETURN(batch.quantized_output, load(3, windows));
  return batch;
}

Result<compute::Tensor> WindowBatches::load(size_t stream, std::span<const int64_t> windows) const {
  const Stream& source = *streams_[stream];
  const int64_t rows = source.context();
  const auto count = static_cast<int64_t>(windows.size());
  const compute::Tensor batch = device_->allocate(count * rows, source.hidden());
  std::vector<float> window;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t w = windows[static_cast<size_t>(i)];
    const compute::Tensor place = batch.row_range(i * rows, rows);
    if (!resident_[stream].empty()) {
      device_->assign(place, resident_[stream].row_range(w * rows, rows));
      continue;
    }
    window.resize(static_cast<size_t>(rows * source.hidden()));
    ABQ_RETURN_IF_ERROR(source.read(w, 1, window));
    device_->assign(place, device_->upload(window, rows, source.hidden()));
  }
  return batch;
}

}  // namespace abq::passes
