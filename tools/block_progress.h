// How far a compilation has come, block by block, and when it will be done.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "tools/console.h"

namespace abq::tools {

// Seconds left, from the blocks that took work: finished ones and the part of the current one.
// Blocks taken up from a work folder take next to no time and tell nothing about the others.
class BlockEstimate {
 public:
  // `now` in seconds, from any start, never falling. A block begins; the one before it is done.
  void begin_block(double now);
  // The current block was taken up from a work folder.
  void mark_resumed() { current_resumed_ = true; }
  // With `remaining` blocks after the current one, of which the part `fraction` is done. Nothing
  // while no work is done by which to judge.
  std::optional<double> seconds_left(double now, int64_t remaining, double fraction) const;

 private:
  double worked_seconds_ = 0;
  int64_t worked_blocks_ = 0;
  std::optional<double> current_start_;
  bool current_resumed_ = false;
};

// The progress line of a compilation; `passes::Progress` and PassContext::detail_progress end here.
class BlockProgress {
 public:
  BlockProgress() : line_("block"), start_(Clock::now()) {}

  // `done` blocks of `total` are done, `pass` begins on the next; an empty pass: all are done.
  // `resumed` counts the blocks so far that were taken up from a work folder.
  void update(int64_t done, int64_t total, std::string_view pass, int64_t resumed);
  // The pass of the last update has come so far with the block.
  void detail(std::string_view words, double fraction, int64_t resumed);
  void finish() { line_.finish(); }

 private:
  using Clock = std::chrono::steady_clock;
  double now() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  void note_resumed(int64_t resumed);
  // Of the current block, counted from 1.
  int64_t number() const { return done_ < total_ ? done_ + 1 : total_; }

  ProgressLine line_;
  Clock::time_point start_;
  BlockEstimate estimate_;
  int64_t done_ = -1;
  int64_t total_ = 0;
  int64_t resumed_ = 0;
  double fraction_ = 0;
  std::string pass_;
};

}  // namespace abq::tools
