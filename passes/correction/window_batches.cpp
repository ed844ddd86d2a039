#include "passes/correction/window_batches.h"

#include <algorithm>
#include <vector>

namespace abq::passes {

Result<WindowBatches> WindowBatches::create(compute::TensorDevice& device,
                                            const BlockStreams& streams) {
  WindowBatches batches(device, streams);
  const Stream& shape = *streams.float_input;
  const int64_t rows = shape.context();
  const int64_t bytes =
      static_cast<int64_t>(kStreams * sizeof(float)) * shape.windows() * rows * shape.hidden();
  if (device.on_host() || bytes > device.free_bytes() / 4) return batches;
  std::vector<float> window(static_cast<size_t>(rows * shape.hidden()));
  for (size_t s = 0; s < kStreams; ++s) {
    if (batches.original(s) != s) {
      batches.resident_[s] = batches.resident_[batches.original(s)];
      continue;
    }
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
  std::array<compute::Tensor, kStreams> loaded;
  for (size_t s = 0; s < kStreams; ++s) {
    if (original(s) != s) {
      loaded[s] = loaded[original(s)];
      continue;
    }
    ABQ_ASSIGN_OR_RETURN(loaded[s], load(s, windows));
  }
  return WindowBatch{loaded[0], loaded[1], loaded[2], loaded[3]};
}

size_t WindowBatches::original(size_t stream) const {
  return static_cast<size_t>(std::find(streams_.begin(), streams_.end(), streams_[stream]) -
                             streams_.begin());
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
