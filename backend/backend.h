// IR -> artifact: kernel selection, memory planning, plan writing.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "proto/plan.pb.h"
#include "quant/recipe.h"
#include "quant/report.h"
#include "support/status.h"

namespace abq::backend {

// Writes blobs as they come, the plan at the end, the header last; the file stands under a
// temporary name beside `path` until commit() renames it. Destroyed uncommitted, it removes the
// temporary file.
class ArtifactWriter {
 public:
  struct Options {
    bool overwrite = false;
  };
  // InvalidArgument when `path` exists without overwrite; Io when the folder is not writable.
  static Result<std::unique_ptr<ArtifactWriter>> create(const std::string& path, Options options);
  ~ArtifactWriter();

  // Appends a blob (64-byte aligned, zero padded, checksummed) and returns its index.
  Result<uint32_t> add_blob(const std::string& name, proto::ElementType type,
                            const std::vector<int64_t>& shape, uint32_t code_bits,
                            std::span<const std::byte> bytes);
  const std::vector<proto::Blob>& blobs() const { return blobs_; }

  // Writes (or rewrites) the plan and the header; plan.blobs is filled in here. Io carries the
  // operating system's reason (disk full) and how many bytes were wanted.
  Status write_plan(proto::Plan plan);
  // Where the finished, not yet committed file can be opened.
  const std::string& temporary_path() const { return temporary_path_; }
  int64_t size() const;
  // Flushes to disk and renames to the final name.
  Status commit();

 private:
  ArtifactWriter() = default;

  std::string path_;
  std::string temporary_path_;
  int fd_ = -1;
  uint64_t end_of_blobs_ = 0;
  std::vector<proto::Blob> blobs_;
  bool committed_ = false;
  int64_t size_ = 0;
};

// Lowers a module region by region into plan steps, streaming its tensors into the writer: `lower`
// is the pass manager's block sink, called for embed, every block and head in order.
class PlanBuilder {
 public:
  explicit PlanBuilder(ArtifactWriter& writer) : writer_(writer) {}

  // Adds the steps of one region; blobs of tensors that an earlier region wrote are shared. Every
  // bit_linear gets its kernel family (quant/gemm_variants.h); a layer that no kernel can run is
  // Unsupported with its name and the reason.
  Status lower(const ir::Module& module, const ir::Region& region);
  // Steps, buffers with slots planned by liveness, model info. Call after the last region.
  Result<proto::Plan> finish(const ir::Module& module);
  // Kernel family of each bit_linear by node name, for the report.
  const std::map<std::string, std::string>& kernels() const { return kernels_; }

 private:
  ArtifactWriter& writer_;
  std::map<std::string, uint32_t> blob_of_tensor_;
  std::map<std::string, std::string> kernels_;
  std::vector<proto::Step> steps_;
  std::vector<proto::Buffer> buffers_;
  uint32_t carried_buffer_ = 0;  // the last region's result
};

// Plain structs <-> proto.
void to_proto(const quant::Recipe& recipe, proto::Recipe* out);
Result<quant::Recipe> from_proto(const proto::Recipe& recipe);
void to_proto(const quant::Report& report, proto::Report* out);
quant::Report from_proto(const proto::Report& report);
// Recipe file in protobuf's JSON form; InvalidArgument names the unknown field or bad value.
Result<quant::Recipe> recipe_from_json(const std::string& json, const std::string& name);

// True bits per weight, from the plan's own blobs and records: over the block linears (codes with
// padding, scales, zero points, their plan records), and 8 x file size / all weights.
double block_linear_bits(const proto::Plan& plan);
double file_bits(const proto::Plan& plan, int64_t file_size);

}  // namespace abq::backend
