// Where a learned pass leaves what it learned of a block, so that a compilation that was stopped
// goes on from there. Learned numbers alone are kept: folding, rounding and the streams are done
// again and give the same bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "quant/report.h"
#include "support/status.h"

namespace abq::passes {

struct LearnedTensor {
  std::string name;
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> values;  // [rows, cols]
};

struct LearnedBlock {
  std::vector<LearnedTensor> tensors;
  quant::BlockReport report;
};

class LearnedBlockStore {
 public:
  virtual ~LearnedBlockStore() = default;
  // Nothing where the block has not been learned yet.
  virtual Result<std::optional<LearnedBlock>> load(const std::string& block) = 0;
  // On disk, whole, when this returns.
  virtual Status save(const std::string& block, const LearnedBlock& learned) = 0;
};

}  // namespace abq::passes
