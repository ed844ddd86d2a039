#include "runtime/plan.h"

#include "runtime/plan_checks.h"
#include "support/checksum.h"

namespace abq::runtime {
namespace {

Status check_plan(const proto::Plan& plan, const proto::ArtifactHeader& header,
                  std::vector<BlobContents>* contents) {
  ABQ_RETURN_IF_ERROR(check_blob_table(plan, header));
  ABQ_RETURN_IF_ERROR(check_model(plan));
  ABQ_RETURN_IF_ERROR(check_steps(plan, contents));
  ABQ_RETURN_IF_ERROR(check_tokenizer(plan));
  ABQ_RETURN_IF_ERROR(check_generation(plan));
  ABQ_RETURN_IF_ERROR(check_self_test(plan));
  return check_tunings(plan);
}

}  // namespace

Result<std::shared_ptr<const LoadedPlan>> LoadedPlan::open(const std::string& path, Verify verify) {
  std::shared_ptr<LoadedPlan> loaded(new LoadedPlan());
  ABQ_ASSIGN_OR_RETURN(loaded->file_, MappedFile::open(path));
  const std::span<const std::byte> file = loaded->file_->bytes();

  const Result<proto::ArtifactHeader> header = check_header(file);
  if (!header.ok()) return header.status().with_context(path);
  Result<proto::Plan> plan = parse_plan(file, *header);
  if (!plan.ok()) return plan.status().with_context(path);
  loaded->plan_ = std::move(plan).value();
  const Status checked = check_plan(loaded->plan_, *header, &loaded->contents_);
  if (!checked.ok()) return checked.with_context(path);
  if (verify == Verify::kAll) ABQ_RETURN_IF_ERROR(loaded->verify_everything(header->plan_offset));
  return std::shared_ptr<const LoadedPlan>(std::move(loaded));
}

std::span<const std::byte> LoadedPlan::blob_bytes(uint32_t blob) const {
  ABQ_CHECK(blob < static_cast<uint32_t>(plan_.blobs_size()));
  const proto::Blob& record = plan_.blobs(static_cast<int>(blob));
  return file_->bytes().subspan(record.offset(), record.size());
}

Status LoadedPlan::verify_blob(uint32_t blob) const {
  const std::span<const std::byte> bytes = blob_bytes(blob);
  const uint64_t stored = plan_.blobs(static_cast<int>(blob)).checksum();
  const uint64_t computed = checksum64(bytes);
  const std::string label = blob_label(plan_, static_cast<int>(blob));
  if (stored != computed) {
    return corrupt("{}: {}: checksum is {:016x}, expected {:016x}; copy or compile the file again",
                   path(), label, computed, stored);
  }
  return check_blob_contents(contents_[blob], bytes).with_context(path() + ": " + label);
}

void LoadedPlan::drop_blob_pages(uint32_t blob) const {
  const proto::Blob& record = plan_.blobs(static_cast<int>(blob));
  file_->drop_pages(record.offset(), record.size());
}

Status LoadedPlan::verify_everything(uint64_t plan_offset) const {
  ABQ_RETURN_IF_ERROR(check_padding(plan_, file_->bytes(), plan_offset).with_context(path()));
  for (uint32_t blob = 0; blob < static_cast<uint32_t>(plan_.blobs_size()); ++blob) {
    ABQ_RETURN_IF_ERROR(verify_blob(blob));
    // A check must not cost the memory of the whole file; the page cache keeps the bytes.
    drop_blob_pages(blob);
  }
  return {};
}

}  // namespace abq::runtime
