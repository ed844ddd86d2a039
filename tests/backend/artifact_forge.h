// Artifacts put together by hand, independent of the writer: tests change any field before the
// checksums are computed, or any byte afterwards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "proto/artifact_format.h"
#include "proto/plan.pb.h"

namespace abq::test {

// A file in the test's own folder, removed with it.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  // Names in the folder, hidden ones too, sorted.
  std::vector<std::string> entries() const;

 private:
  std::string path_;
};

void write_file(const std::string& path, const std::string& bytes);
std::string read_file(const std::string& path);

struct Forge {
  proto::Plan plan;
  std::vector<std::string> blobs;  // bytes, one per plan.blobs

  uint32_t add_blob(const std::string& name, proto::ElementType type, std::vector<int64_t> shape,
                    std::string bytes, uint32_t code_bits = 0);
  uint32_t add_floats(const std::string& name, std::vector<int64_t> shape);
  uint32_t add_buffer(proto::Buffer::Kind kind, int64_t columns, uint32_t bits = 0);
  proto::Step& add_step(const std::string& name, std::vector<uint32_t> inputs, uint32_t output);
  // Fills in offsets, sizes and checksums of all blobs.
  void place_blobs();
  // The whole file with valid checksums. The blobs' records are taken as they are: call place_blobs
  // first, then damage them.
  std::string bytes() const;
};

// The file with its header's checksum made right again.
std::string with_header(std::string file, const proto::ArtifactHeader& header);
proto::ArtifactHeader header_of(const std::string& file);

// A whole model of one layer with hidden size 8: every kind of step, every kind of blob.
//   steps: 0 embed, 1 norm, 2 quantize, 3 q (w2b, base-5), 4 k (w3), 5 v (w3), 6 rope q, 7 rope k,
//          8 attention, 9 add, 10 silu_mul, 11 weight-only (w1b, base-3), 12 linear, 13 head
Forge tiny_model();

}  // namespace abq::test
