// What the subcommands share in talking to a person: errors, progress, numbers.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "support/status.h"

namespace abq::tools {

// fmt::print throws when a stream takes nothing more (closed pipe, full disk); these two do not.
// What stdout lost is remembered for finish_output().
template <class... Args>
void print_out(fmt::format_string<Args...> format, Args&&... args);
template <class... Args>
void print_err(fmt::format_string<Args...> format, Args&&... args);
void write_out(std::string_view text);
void write_err(std::string_view text);
// False once stdout takes nothing more.
bool flush_out();
// The process's exit code once everything is printed: `exit_code`, or 1 and a message when output
// was lost. A closed pipe (`abq inspect m.abq | head`) loses nothing that anybody wanted.
int finish_output(int exit_code);

// Prints "abq: error: ..." to stderr and gives the exit code for it (0 for ok).
int report_status(const Status& status);

std::string human_bytes(int64_t bytes);     // "1.2 MB" (decimal units)
std::string human_seconds(double seconds);  // "1.3 s", "2 min 05 s"

// Peak resident memory of this process in bytes (VmHWM), 0 where unknown.
int64_t peak_memory_bytes();

// "block 3/8 quantize, 41.2 s elapsed, ETA 1 min 02 s"
std::string progress_text(std::string_view label, int64_t done, int64_t total,
                          std::string_view detail, double elapsed,
                          std::optional<double> seconds_left);

// A progress line on stderr with elapsed time and ETA: rewritten in place on a terminal, a line now
// and then elsewhere.
class ProgressLine {
 public:
  explicit ProgressLine(std::string label);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // ETA from the mean time of what is done.
  void update(int64_t done, int64_t total, std::string_view detail);
  // With the caller's own estimate of the seconds left; none shows no ETA. The last line is shown
  // however fresh the one before it is.
  void update(int64_t done, int64_t total, std::string_view detail,
              std::optional<double> seconds_left, bool last);
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

template <class... Args>
void print_out(fmt::format_string<Args...> format, Args&&... args) {
  write_out(fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void print_err(fmt::format_string<Args...> format, Args&&... args) {
  write_err(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace abq::tools
