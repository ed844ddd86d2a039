// The device engine of libabq_cuda.so: weights, launches and activation memory of one model on one
// stream. Sessions add a KV cache each. All calls are serialized by a mutex.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "compute/cuda/find_device.h"
#include "runtime/cuda/engine/launcher.h"
#include "runtime/cuda/engine/pinned_array.h"
#include "runtime/device_engine.h"

namespace abq::runtime::cuda {

class CudaDeviceEngine;

class CudaDeviceSession : public DeviceSession {
 public:
  CudaDeviceSession(CudaDeviceEngine& engine, DeviceArray<std::byte> cache, int64_t capacity,
                    int64_t chunk)
      : engine_(engine), cache_(std::move(cache)), capacity_(capacity), chunk_(chunk) {}

  Status run(std::span<const int32_t> tokens, int64_t rows, float* logits) override;
  void reset() override { position_ = 0; }
  int64_t position() const override { return position_; }
  int64_t memory_bytes() const override { return cache_.bytes(); }

 private:
  friend class CudaDeviceEngine;
  // `position` is read when the next token runs.
  SequenceState state() { return {cache_.data(), capacity_, position_}; }

  CudaDeviceEngine& engine_;  // outlives its sessions
  DeviceArray<std::byte> cache_;
  int64_t capacity_;  // rounded up to whole cache granules
  int64_t chunk_;
  int64_t position_ = 0;
};

class CudaDeviceEngine : public DeviceEngine {
 public:
  // The program's pointers are not used after this returns.
  static Result<std::unique_ptr<CudaDeviceEngine>> create(const Program& program);
  ~CudaDeviceEngine() override;

  Result<std::unique_ptr<DeviceSession>> new_session(const DeviceSessionOptions& options) override;
  Status decode(std::span<DeviceSession* const> sessions, std::span<const int32_t> tokens,
                const DecodeResults& results) override;
  std::string_view name() const override { return device_.name; }
  std::string_view description() const override { return description_; }
  int64_t weight_bytes() const override { return weights_.bytes(); }
  int64_t activation_bytes() const override { return activations_->bytes(); }
  std::string kernel_name(int step, int64_t m) const override;
  Result<Tuning> tune() override;
  std::string take_notice() override;

  // A prompt's tokens of one session (more than one of them).
  Status prefill(CudaDeviceSession& session, std::span<const int32_t> tokens, int64_t rows,
                 float* logits);

 private:
  // One recorded decode step: everything between the token ids on the host and the results there.
  struct GraphKey {
    int64_t m = 0;
    int64_t max_tokens = 0;
    bool logits = false;
    bool next = false;
    bool draws = false;
    auto operator<=>(const GraphKey&) const = default;
  };
  struct GraphDeleter {
    void operator()(cudaGraphExec_t graph) const { (void)cudaGraphExecDestroy(graph); }
  };
  using Graph = std::unique_ptr<CUgraphExec_st, GraphDeleter>;

  explicit CudaDeviceEngine(const Program& program) : program_(program) {}
  Status open();
  Status check_launches() const;
  std::vector<AttentionLayer> attention_layers() const;
  // Host and device memory of the inputs and results of m sequences and `logit_rows` rows.
  Status reserve_transfers(int64_t m, int64_t logit_rows);
  static int64_t ids_offset(int64_t sequences);
  static int64_t draws_offset(int64_t sequences);
  RunInputs device_inputs(int64_t sequences) const;
  Status copy_inputs(int64_t bytes);
  Status reserve_activations(const RunShape& shape);
  Status enqueue_decode(const GraphKey& key);
  Status run_decode(const GraphKey& key);
  Result<Graph> record(const GraphKey& key);
  Status use_device() const;
  Status wait(std::string_view what);
  Rows logits_rows(const RunShape& shape) const;

  mutable std::mutex mutex_;
  Program program_;
  compute::cuda::CudaDevice device_;
  std::string description_;
  cudaStream_t stream_ = nullptr;
  LaunchList list_;
  DeviceWeights weights_;
  KernelChoice choice_;
  PrefillChoice prefill_;
  std::optional<ActivationMemory> activations_;
  std::optional<Launcher> launcher_;
  std::vector<int> launch_of_step_;

  PinnedArray<std::byte> host_inputs_;  // SequenceState [sequences], ids [m], TokenDraw [m]
  DeviceArray<std::byte> device_inputs_;
  int64_t inputs_capacity_ = 0;  // tokens
  PinnedArray<float> host_logits_;
  PinnedArray<int32_t> host_next_;
  DeviceArray<int32_t> device_next_;
  std::map<GraphKey, Graph> graphs_;  // null: ran once, recorded the next time
};

}  // namespace abq::runtime::cuda
