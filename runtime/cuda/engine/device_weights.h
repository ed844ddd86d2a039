// The weights of a launch list on the device: one allocation, filled launch by launch.
#pragma once

#include <map>
#include <vector>

#include "runtime/cuda/attention_kernels.h"
#include "runtime/cuda/device_array.h"
#include "runtime/cuda/engine/launch_list.h"
#include "runtime/cuda/linear_kernels.h"
#include "runtime/cuda/tokens/hadamard_plan.h"

namespace abq::runtime::cuda {

// What one launch reads; unused members stay null.
struct LaunchWeights {
  WeightTiles tiles;                         // QuantizedLinearLaunch
  compute::FloatMatrix matrix;               // EmbedLaunch, FloatLinearLaunch (rows of all parts)
  const float* vector = nullptr;             // NormLaunch: weight; RotaryLaunch: frequencies
  const float* query_frequencies = nullptr;  // AttentionLaunch
  const float* key_frequencies = nullptr;
  HadamardMatrix hadamard;  // HadamardLaunch
};

// The weights of a launch's parts, in the order of its rows.
std::vector<const StoredWeights*> weight_parts(const Program& program,
                                               const QuantizedLinearLaunch& launch);

class DeviceWeights {
 public:
  // Corrupt or InvalidArgument for weights that contradict their description; Device when there is
  // too little memory (says how much was needed). Calls program.release_step for every step done.
  static Result<DeviceWeights> create(const Program& program, const LaunchList& list,
                                      cudaStream_t stream);

  const LaunchWeights& operator[](size_t launch) const { return launches_[launch]; }
  int64_t bytes() const { return memory_.bytes(); }

 private:
  friend class WeightUpload;
  DeviceArray<std::byte> memory_;
  std::vector<LaunchWeights> launches_;
};

}  // namespace abq::runtime::cuda
