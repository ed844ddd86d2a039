// The calibration windows as a learned pass reads them: some windows of four streams at a time, as
// tensors. Streams that fit stay on the device; the others come from memory or disk each time.
#pragma once

#include <array>
#include <span>

#include "compute/tensor_device.h"
#include "passes/stream.h"

namespace abq::passes {

// Streams of one block; they outlive their batches.
struct BlockStreams {
  const Stream* float_input = nullptr;
  const Stream* quantized_input = nullptr;
  const Stream* float_output = nullptr;      // float block, float stream
  const Stream* quantized_output = nullptr;  // float block, quantized stream
};

// [windows * context, hidden] each.
struct WindowBatch {
  compute::Tensor float_input;
  compute::Tensor quantized_input;
  compute::Tensor float_output;
  compute::Tensor quantized_output;
};

class WindowBatches {
 public:
  // Uploads the streams to a device with memory of its own when together they take at most a
  // quarter of what is free there.
  static Result<WindowBatches> create(compute::TensorDevice& device, const BlockStreams& streams);

  int64_t windows() const { return streams_[0]->windows(); }
  int64_t context() const { return streams_[0]->context(); }
  Result<WindowBatch> load(std::span<const int64_t> windows) const;

 private:
  static constexpr size_t kStreams = 4;

  WindowBatches(compute::TensorDevice& device, const BlockStreams& streams)
      : device_(&device),
        streams_{streams.float_input, streams.quantized_input, streams.float_output,
                 streams.quantized_output} {}
  Result<compute::Tensor> load(size_t stream, std::span<const int64_t> windows) const;
  // The first stream that is the same as `stream`: before the first block some are one.
  size_t original(size_t stream) const;

  compute::TensorDevice* device_;
  std::array<const Stream*, kStreams> streams_;
  std::array<compute::Tensor, kStreams> resident_;  // whole streams; empty when they do not fit
};

}  // namespace abq::passes
