// IR -> artifact: kernel selection, memory planning, plan writing.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "proto/plan.pb.h"
#include "quant/recipe.h"
#include "quant/report.h"
#include "support/status.h"

namespace abq::backend {

class TemporaryFile;

// Writes blobs as they come, the plan at the end, the header last. Until commit() the file has no
// name where the file system allows that, else a hidden one (backend/temporary_file.h); destroyed
// uncommitted, it leaves nothing behind.
class ArtifactWriter {
 public:
  struct Options {
    bool overwrite = false;
    // Uses a hidden name even where the file could do without: the way of file systems that lack
    // anonymous files. A process that may be interrupted then calls
    // remove_named_temporary_files() from its signal handler.
    bool named_temporary_file = false;
  };
  // InvalidArgument when `path` exists without overwrite; NotFound or Io when its folder is missing
  // or not writable.
  static Result<std::unique_ptr<ArtifactWriter>> create(const std::string& path, Options options);
  ~ArtifactWriter();

  // Appends a blob (64-byte aligned, zero padded, checksummed) and returns its index. Makes an
  // already written plan void: call write_plan again.
  Result<uint32_t> add_blob(const std::string& name, proto::ElementType type,
                            const std::vector<int64_t>& shape, uint32_t code_bits,
                            std::span<const std::byte> bytes);
  const std::vector<proto::Blob>& blobs() const { return blobs_; }

  // Writes (or rewrites) the plan and the header; plan.blobs and the version are filled in here. Io
  // carries the operating system's reason (disk full) and how many bytes were wanted.
  Status write_plan(proto::Plan plan);
  // Where this process can open the finished, not yet committed file.
  const std::string& temporary_path() const;
  // Bytes of the whole file, after write_plan.
  int64_t size() const { return size_; }
  // Flushes to disk and gives the file its final name. Once.
  Status commit();

 private:
  explicit ArtifactWriter(std::unique_ptr<TemporaryFile> file);

  std::unique_ptr<TemporaryFile> file_;
  uint64_t end_of_blobs_ = 0;
  std::vector<proto::Blob> blobs_;
  bool finished_ = false;  // header and plan are those of the blobs
  int64_t size_ = 0;
};

// Async-signal-safe, for a handler of SIGINT and SIGTERM: unlinks the hidden files of writers that
// could not do without a name.
void remove_named_temporary_files();

struct PlanState;

// Lowers a module region by region into plan steps, streaming its tensors into the writer: `lower`
// is the pass manager's block sink, called for embed, every block and head in order.
class PlanBuilder {
 public:
  explicit PlanBuilder(ArtifactWriter& writer);
  ~PlanBuilder();

  // Adds the steps of one region; a tensor that an earlier region wrote under the same name and
  // with the same bytes is shared (tied embeddings). Every bit_linear gets its kernel family
  // (quant/gemm_variants.h); a layer that no kernel can run is Unsupported with its name and the
  // reason.
  Status lower(const ir::Module& module, const ir::Region& region);
  // Steps, buffers with slots planned by liveness, blobs so far, model info. Call after the last
  // region.
  Result<proto::Plan> finish(const ir::Module& module);
  // Kernel family of each bit_linear by node name, for the report.
  const std::map<std::string, std::string>& kernels() const;

 private:
  std::unique_ptr<PlanState> state_;
};

// Plain structs <-> proto.
void to_proto(const quant::Recipe& recipe, proto::Recipe* out);
Result<quant::Recipe> from_proto(const proto::Recipe& recipe);
// InvalidArgument names the field and what it may be: what from_proto asks of `correction`.
Status check_correction(const quant::CorrectionSettings& settings);
// By its name in recipes and on the command line; InvalidArgument lists those there are.
Result<quant::ResidualRotation> parse_residual_rotation(std::string_view name);
void to_proto(const quant::Report& report, proto::Report* out);
quant::Report from_proto(const proto::Report& report);
void to_proto(const quant::BlockReport& block, proto::BlockReport* out);
quant::BlockReport from_proto(const proto::BlockReport& block);
// Recipe file in protobuf's JSON form; InvalidArgument names the unknown field or bad value.
Result<quant::Recipe> recipe_from_json(const std::string& json, const std::string& name);
// The same form, all fields said, the same text for equal recipes.
std::string recipe_to_json(const quant::Recipe& recipe);
std::string correction_to_json(const proto::CorrectionSettings& settings);

// True bits per weight, from the plan's own blobs and records: over the block linears (codes with
// padding, scales, zero points, their plan records), and 8 x file size / all weights.
double block_linear_bits(const proto::Plan& plan);
// A block linear as it is going to be stored, before there is a plan.
struct PlannedLinear {
  std::string node;    // its step's name
  std::string weight;  // its float tensor's name
  int64_t n = 0;
  int64_t k = 0;
  ir::ElementType float_element = ir::ElementType::kF32;  // where the scheme leaves weights float
};
// What block_linear_bits is going to count for it in bytes, or up to 16 more: indices and offsets
// are taken to be long ones. Unsupported when no kernel can run it.
Result<int64_t> planned_linear_bytes(const PlannedLinear& linear, const quant::Scheme& scheme);
double file_bits(const proto::Plan& plan, int64_t file_size);

}  // namespace abq::backend
