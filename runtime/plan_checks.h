// The reader's checks, each a small function with its own sentence (docs/plan_format.md lists
// them). They work on bytes and messages alone; plan.cpp puts the path in front of what they say.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "proto/artifact_format.h"
#include "proto/plan.pb.h"
#include "runtime/plan.h"
#include "support/status.h"

namespace abq::runtime {

// Largest plan message that is read: a plan is a few kilobytes per decoder block, and protobuf
// holds all of it in memory.
inline constexpr uint64_t kMaxPlanBytes = uint64_t{1} << 30;
// Longest dimension of a blob: far above any model, far below where products of two overflow.
inline constexpr int64_t kMaxDimension = int64_t{1} << 40;
// Longest context: bounds what a session reserves because a plan says so.
inline constexpr int64_t kMaxContext = int64_t{1} << 24;

// plan_header.cpp: the 64 bytes in front, the range of the plan, its checksum and its parse.
Result<proto::ArtifactHeader> check_header(std::span<const std::byte> file);
Result<proto::Plan> parse_plan(std::span<const std::byte> file,
                               const proto::ArtifactHeader& header);

// plan_blobs.cpp: types, shapes, sizes and places of all blobs; the bytes between them.
Status check_blob_table(const proto::Plan& plan, const proto::ArtifactHeader& header);
Status check_padding(const proto::Plan& plan, std::span<const std::byte> file,
                     uint64_t plan_offset);
Status check_blob_contents(const BlobContents& contents, std::span<const std::byte> bytes);
// "F32[3, 4]", "PLANES<2>[8, 64]", for messages.
std::string describe(const proto::Blob& blob);
// `blob 4 (layers.0.attn.q.codes)`
std::string blob_label(const proto::Plan& plan, int index);

// plan_steps.cpp and plan_operations.cpp: steps, buffers and the blobs that they read. Fills in one
// entry of `contents` per blob.
Status check_steps(const proto::Plan& plan, std::vector<BlobContents>* contents);
// Checks what one operation asks of its buffers and blobs, whose indices are known to be in range.
Status check_operation(const proto::Plan& plan, const proto::Step& step,
                       std::vector<BlobContents>* contents);

// plan_checks.cpp: everything that is neither step nor blob.
Status check_model(const proto::Plan& plan);
Status check_tokenizer(const proto::Plan& plan);
Status check_generation(const proto::Plan& plan);
Status check_self_test(const proto::Plan& plan);
Status check_tunings(const proto::Plan& plan);

}  // namespace abq::runtime
