// What the subcommands share in talking to a person: errors, progress, numbers.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "support/status.h"

namespace abq::tools {

// Prints "abq: error: ..." to stderr and gives the exit code for it (0 for ok).
int report_status(const Status& status);

std::string human_bytes(int64_t bytes);     // "1.2 MB" (decimal units)
std::string human_seconds(double seconds);  // "1.3 s", "2 min 05 s"

// Peak resident memory of this process in bytes (VmHWM), 0 where unknown.
int64_t peak_memory_bytes();

// A progress line on stderr with elapsed time and ETA: rewritten in place on a terminal, a line now
// and then elsewhere.
class ProgressLine {
 public:
  explicit ProgressLine(std::string label);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void update(int64_t done, int64_t total, std::string_view detail);
  // Ends the line.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  std::string label_;
  bool terminal_;
  bool open_ = false;
  Clock::time_point start_;
  Clock::time_point last_print_;
};

}  // namespace abq::tools
