// The folder beside an unfinished artifact that keeps what has been learned so far, block by block.
//
// Every file in it that is ours ends in ".abqwork" (or ".abqwork.new" while it is written); no
// other file is ever read or deleted. One compilation at a time holds the folder, by a lock that
// ends with its process.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "passes/learned_blocks.h"
#include "proto/work.pb.h"
#include "support/status.h"

namespace abq::tools {

class WorkFolder : public passes::LearnedBlockStore {
 public:
  // Makes the folder, or takes up the work in it. Where another compilation left learned blocks
  // there, InvalidArgument names each difference; `restart` discards them instead. InvalidArgument
  // also when another process holds the folder, Corrupt when its fingerprint is damaged, Io or
  // NotFound when it cannot be made.
  static Result<std::unique_ptr<WorkFolder>> open(const std::string& path,
                                                  const proto::Fingerprint& fingerprint,
                                                  bool restart);
  // Deletes our files in a folder that no process holds, and the folder if nothing else is in it.
  static void discard(const std::string& path);
  // Leaves no folder behind in which nothing has been learned.
  ~WorkFolder() override;
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;

  // A damaged or foreign file is Corrupt; nothing is learned over it unasked.
  Result<std::optional<passes::LearnedBlock>> load(const std::string& block) override;
  Status save(const std::string& block, const passes::LearnedBlock& learned) override;

  const std::string& path() const { return path_; }
  // Blocks whose work was taken up: calls of load that gave something.
  int64_t loaded_blocks() const { return loaded_blocks_; }
  // For a finished compilation: deletes our files, and the folder if nothing else is in it.
  void remove();

 private:
  explicit WorkFolder(std::string path) : path_(std::move(path)) {}
  Status lock();
  Status take_up(const proto::Fingerprint& fingerprint, bool restart);
  Result<std::string> block_file(const std::string& block) const;
  // Paths of the learned blocks whose names end so.
  std::vector<std::string> block_files(std::string_view ending) const;
  Status discard_blocks();

  std::string path_;
  std::string fingerprint_digest_;
  int lock_ = -1;
  bool removed_ = false;
  int64_t loaded_blocks_ = 0;
};

}  // namespace abq::tools
