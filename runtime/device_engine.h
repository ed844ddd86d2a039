// A whole model on a device whose code lives in a library of its own (libabq_cuda.so). The engine
// of the binary (runtime/cuda_engine.h) checks tokens and positions; what arrives here is valid.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/program.h"
#include "runtime/token_draw.h"
#include "support/status.h"

namespace abq::runtime {

struct DeviceSessionOptions {
  int64_t capacity = 0;         // tokens of the KV cache
  int64_t prefill_chunk = 512;  // most tokens of one run()
};

// The state of one sequence on the device.
class DeviceSession {
 public:
  virtual ~DeviceSession() = default;
  // Appends m = tokens.size() <= prefill_chunk tokens. `logits` [rows, V] on the host receives
  // those of the last `rows` tokens: 0 rows (more of a prompt follows), 1, or m.
  virtual Status run(std::span<const int32_t> tokens, int64_t rows, float* logits) = 0;
  virtual void reset() = 0;
  virtual int64_t position() const = 0;
  virtual int64_t memory_bytes() const = 0;  // of device memory
};

// What a decode step hands out, on the host; null pointers are not filled.
struct DecodeResults {
  float* logits = nullptr;  // [M, V]
  // [M], the tokens that follow: drawn as `draws` says, or of the highest logits (the lowest ids of
  // equals) where it is empty. -1 where a logit is NaN or infinite.
  int32_t* next = nullptr;
  std::span<const TokenDraw> draws = {};  // [M], or empty
};

// Outlives its sessions.
class DeviceEngine {
 public:
  virtual ~DeviceEngine() = default;
  virtual Result<std::unique_ptr<DeviceSession>> new_session(
      const DeviceSessionOptions& options) = 0;
  // One token for each of M sessions of this engine, each at its own position.
  virtual Status decode(std::span<DeviceSession* const> sessions, std::span<const int32_t> tokens,
                        const DecodeResults& results) = 0;
  virtual std::string_view name() const = 0;         // "cuda-sm_90"
  virtual std::string_view description() const = 0;  // "NVIDIA H200, driver 13.0"
  virtual int64_t weight_bytes() const = 0;
  virtual int64_t activation_bytes() const = 0;  // shared by all sessions; grows with their chunks
  // Times every kernel that can run the model's quantized linears, on the model's own weights. The
  // engine itself goes on with the choices that its program came with.
  virtual Result<Tuning> tune() = 0;
  // What runs step `step` for a prompt's m tokens (m = 1: for decoding); steps that were fused name
  // the kernel that does their work.
  virtual std::string kernel_name(int step, int64_t m) const = 0;
  // Once: why prompts do not go through cuDNN although they would be faster there. Empty: no
  // reason.
  virtual std::string take_notice() = 0;
};

// Opens the library and makes the program ready on the first GPU. Unsupported: no library, driver
// or device; Device: what failed, with the memory that was needed where there was too little.
Result<std::unique_ptr<DeviceEngine>> create_cuda_device_engine(const Program& program);

}  // namespace abq::runtime
