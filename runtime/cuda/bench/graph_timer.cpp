#include "runtime/cuda/bench/graph_timer.h"

#include <algorithm>
#include <array>
#include <vector>

#include "runtime/cuda/bench/read_kernel.h"
#include "runtime/cuda/device_array.h"

namespace abq::runtime::cuda {
namespace {

constexpr int kReplays = 9;

// A stream, a graph captured from it and two events, released together.
struct Capture {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  std::array<cudaEvent_t, 2> events{};

  Capture() = default;
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  ~Capture() {
    for (const cudaEvent_t event : events) {
      if (event != nullptr) (void)cudaEventDestroy(event);
    }
    if (executable != nullptr) (void)cudaGraphExecDestroy(executable);
    if (graph != nullptr) (void)cudaGraphDestroy(graph);
    if (stream != nullptr) (void)cudaStreamDestroy(stream);
  }
};

Status capture_graph(Capture& capture, int launches,
                     const std::function<Status(int, cudaStream_t)>& enqueue) {
  ABQ_RETURN_IF_CUDA_ERROR(cudaStreamCreateWithFlags(&capture.stream, cudaStreamNonBlocking),
                           "stream for timing");
  for (cudaEvent_t& event : capture.events)
    ABQ_RETURN_IF_CUDA_ERROR(cudaEventCreate(&event), "event for timing");
  // Once outside of a graph: whatever is made at the first call is made here.
  ABQ_RETURN_IF_ERROR(enqueue(0, capture.stream));
  ABQ_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(capture.stream), "first launch");
  ABQ_RETURN_IF_CUDA_ERROR(cudaStreamBeginCapture(capture.stream, cudaStreamCaptureModeThreadLocal),
                           "graph capture");
  Status status;
  for (int i = 0; i < launches && status.ok(); ++i)
    status = enqueue(i, capture.stream);
  // The capture ends even when a launch failed, so that the stream can be destroyed.
  const cudaError_t ended = cudaStreamEndCapture(capture.stream, &capture.graph);
  ABQ_RETURN_IF_ERROR(status);
  ABQ_RETURN_IF_CUDA_ERROR(ended, "graph capture of {} launches", launches);
  ABQ_RETURN_IF_CUDA_ERROR(cudaGraphInstantiate(&capture.executable, capture.graph, 0),
                           "graph of {} launches", launches);
  return {};
}

// Whole multiples of a device's processors, at several block sizes and loads on the way.
std::vector<ReadGrid> read_grids(int processors, int64_t bytes) {
  std::vector<ReadGrid> grids;
  for (const int unroll : {1, 4}) {
    for (const int threads : {512, 1024}) {
      for (const int factor : {1, 2, 4}) {
        if (factor * threads > 2048) continue;
        const int64_t most = (bytes / 16 + threads - 1) / threads;
        grids.push_back(
            {static_cast<int>(std::min<int64_t>(factor * processors, most)), threads, unroll});
      }
    }
  }
  return grids;
}

Result<int> device_attribute(cudaDeviceAttr attribute) {
  int device = 0;
  int value = 0;
  ABQ_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device), "current device");
  ABQ_RETURN_IF_CUDA_ERROR(cudaDeviceGetAttribute(&value, attribute, device), "device attribute {}",
                           static_cast<int>(attribute));
  return value;
}

}  // namespace

Result<double> time_graph(int launches, const std::function<Status(int, cudaStream_t)>& enqueue) {
  Capture capture;
  ABQ_RETURN_IF_ERROR(capture_graph(capture, launches, enqueue));
  std::vector<double> samples;
  for (int replay = 0; replay < kReplays + 1; ++replay) {
    ABQ_RETURN_IF_CUDA_ERROR(cudaEventRecord(capture.events[0], capture.stream), "event");
    ABQ_RETURN_IF_CUDA_ERROR(cudaGraphLaunch(capture.executable, capture.stream),
                             "graph of {} launches", launches);
    ABQ_RETURN_IF_CUDA_ERROR(cudaEventRecord(capture.events[1], capture.stream), "event");
    ABQ_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(capture.stream), "graph of {} launches",
                             launches);
    float milliseconds = 0;
    ABQ_RETURN_IF_CUDA_ERROR(
        cudaEventElapsedTime(&milliseconds, capture.events[0], capture.events[1]), "event");
    samples.push_back(1e3 * static_cast<double>(milliseconds) / launches);
  }
  samples.erase(samples.begin());  // the first one warms clocks and code up
  std::sort(samples.begin(), samples.end());
  return samples[samples.size() / 2];
}

Result<int> cold_copies(int64_t bytes) {
  ABQ_ASSIGN_OR_RETURN(const int cache, device_attribute(cudaDevAttrL2CacheSize));
  const int64_t wanted = 2 * static_cast<int64_t>(cache) / std::max<int64_t>(bytes, 1) + 2;
  return static_cast<int>(std::min<int64_t>(wanted, kGraphLaunches));
}

Result<double> time_read(int64_t bytes, bool overlapped) {
  const int64_t copy = (bytes + 255) / 256 * 256;
  ABQ_ASSIGN_OR_RETURN(const int processors, device_attribute(cudaDevAttrMultiProcessorCount));
  ABQ_ASSIGN_OR_RETURN(const int copies, cold_copies(copy));
  ABQ_ASSIGN_OR_RETURN(DeviceArray<uint8_t> data, DeviceArray<uint8_t>::create(copies * copy));
  ABQ_ASSIGN_OR_RETURN(DeviceArray<uint32_t> never, DeviceArray<uint32_t>::create(1));
  ABQ_RETURN_IF_CUDA_ERROR(cudaMemset(data.data(), 0x11, static_cast<size_t>(data.bytes())),
                           "fill of {} bytes", data.bytes());
  double best = 0;
  for (const ReadGrid& grid : read_grids(processors, copy)) {
    ABQ_ASSIGN_OR_RETURN(
        const double us, time_graph(kGraphLaunches, [&](int i, cudaStream_t stream) -> Status {
          ABQ_RETURN_IF_CUDA_ERROR(launch_read(data.data() + i % copies * copy, copy, never.data(),
                                               grid, overlapped, stream),
                                   "read of {} bytes by {} blocks of {} threads", copy, grid.blocks,
                                   grid.threads);
          return {};
        }));
    best = best == 0 ? us : std::min(best, us);
  }
  return best;
}

}  // namespace abq::runtime::cuda
