// IR nodes -> plan steps, one region at a time; the inside of PlanBuilder.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace abq::backend {

// Tensors of the module as blobs of the artifact.
class BlobTable {
 public:
  explicit BlobTable(ArtifactWriter& writer) : writer_(writer) {}

  // Index of the blob with the bytes of this tensor, written now unless an equal one of the same
  // name is there already. InvalidArgument without bytes, Unsupported for types that are no
  // weights.
  Result<uint32_t> index_of(const ir::Module& module, const std::string& tensor_name);
  const proto::Blob& blob(uint32_t index) const { return writer_.blobs()[index]; }
  const std::vector<proto::Blob>& blobs() const { return writer_.blobs(); }

 private:
  ArtifactWriter& writer_;
  std::map<std::string, std::vector<uint32_t>> written_;  // by tensor name
};

// What grows from region to region.
struct PlanState {
  explicit PlanState(ArtifactWriter& writer) : blobs(writer) {}

  BlobTable blobs;
  std::vector<proto::Step> steps;
  std::vector<proto::Buffer> buffers;
  std::map<std::string, std::string> kernels;  // family by node name
  std::vector<uint32_t> carried;               // buffers of the last region's results
  std::map<uint32_t, int64_t> weights;         // of the float model, by blob
};

Status lower_region(const ir::Module& module, const ir::Region& region, PlanState& state);

}  // namespace abq::backend
