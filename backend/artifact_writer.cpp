#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <cstring>

#include "backend/backend.h"
#include "backend/temporary_file.h"
#include "proto/artifact_format.h"
#include "support/checksum.h"

namespace abq::backend {
namespace {

uint64_t align(uint64_t offset) {
  return (offset + proto::kBlobAlignment - 1) / proto::kBlobAlignment * proto::kBlobAlignment;
}

// Same message, same bytes: protobuf promises an order of fields only on request.
std::string serialize(const proto::Plan& plan) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  plan.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

proto::ArtifactHeader make_header(uint64_t plan_offset, std::span<const std::byte> plan) {
  proto::ArtifactHeader header = {};
  std::memcpy(header.magic, proto::kMagic, sizeof(header.magic));
  header.format_version = proto::kFormatVersion;
  header.header_size = sizeof(header);
  header.plan_offset = plan_offset;
  header.plan_size = plan.size();
  header.plan_checksum = checksum64(plan);
  header.file_size = plan_offset + plan.size();
  const auto bytes = std::as_bytes(std::span(&header, 1));
  header.header_checksum = checksum64(bytes.first(bytes.size() - sizeof(uint64_t)));
  return header;
}

}  // namespace

ArtifactWriter::ArtifactWriter(std::unique_ptr<TemporaryFile> file)
    : file_(std::move(file)), end_of_blobs_(sizeof(proto::ArtifactHeader)) {}
ArtifactWriter::~ArtifactWriter() = default;

Result<std::unique_ptr<ArtifactWriter>> ArtifactWriter::create(const std::string& path,
                                                               Options options) {
  ABQ_ASSIGN_OR_RETURN(
      std::unique_ptr<TemporaryFile> file,
      TemporaryFile::create(path, options.overwrite, options.named_temporary_file));
  return std::unique_ptr<ArtifactWriter>(new ArtifactWriter(std::move(file)));
}

const std::string& ArtifactWriter::temporary_path() const {
  return file_->readable_path();
}

Result<uint32_t> ArtifactWriter::add_blob(const std::string& name, proto::ElementType type,
                                          const std::vector<int64_t>& shape, uint32_t code_bits,
                                          std::span<const std::byte> bytes) {
  if (bytes.empty()) return invalid_argument("{}: has no bytes to store", name);
  proto::Blob blob;
  blob.set_name(name);
  blob.set_type(type);
  blob.mutable_shape()->Assign(shape.begin(), shape.end());
  blob.set_code_bits(code_bits);
  blob.set_offset(align(end_of_blobs_));
  blob.set_size(bytes.size());
  blob.set_checksum(checksum64(bytes));
  if (finished_) {
    // What the plan left behind the blobs must not show up in the padding.
    finished_ = false;
    ABQ_RETURN_IF_ERROR(file_->resize(end_of_blobs_));
  }
  ABQ_RETURN_IF_ERROR(file_->write_at(blob.offset(), bytes));
  end_of_blobs_ = blob.offset() + blob.size();
  blobs_.push_back(std::move(blob));
  return static_cast<uint32_t>(blobs_.size() - 1);
}

Status ArtifactWriter::write_plan(proto::Plan plan) {
  plan.set_format_version(proto::kFormatVersion);
  plan.mutable_blobs()->Assign(blobs_.begin(), blobs_.end());
  const std::string serialized = serialize(plan);
  const auto bytes = std::as_bytes(std::span(serialized));
  const uint64_t offset = align(end_of_blobs_);
  const proto::ArtifactHeader header = make_header(offset, bytes);

  finished_ = false;
  // First down to the blobs, so that an earlier, longer plan leaves nothing behind.
  ABQ_RETURN_IF_ERROR(file_->resize(end_of_blobs_));
  ABQ_RETURN_IF_ERROR(file_->write_at(offset, bytes));
  ABQ_RETURN_IF_ERROR(file_->write_at(0, std::as_bytes(std::span(&header, 1))));
  size_ = static_cast<int64_t>(header.file_size);
  finished_ = true;
  return {};
}

Status ArtifactWriter::commit() {
  if (!finished_) return internal_error("an artifact was committed without its plan");
  return file_->publish();
}

}  // namespace abq::backend
