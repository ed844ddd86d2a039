#include "tools/console.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "tools/commands.h"

namespace abq::tools {

namespace {

int output_error = 0;  // the errno of the first failure to write to stdout

void remember_output_error() {
  if (output_error == 0) output_error = errno != 0 ? errno : EIO;
}

}  // namespace

void write_out(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) remember_output_error();
}

void write_err(std::string_view text) {
  // Where stderr fails there is nobody left to tell.
  (void)std::fwrite(text.data(), 1, text.size(), stderr);
}

bool flush_out() {
  if (std::fflush(stdout) != 0) remember_output_error();
  return output_error == 0;
}

int finish_output(int exit_code) {
  if (flush_out() || output_error == EPIPE) return exit_code;
  print_err("abq: error: standard output: {}\n", std::strerror(output_error));
  return kExitFailed;
}

int report_status(const Status& status) {
  if (status.ok()) return kExitOk;
  print_err("abq: error: {}\n", status.to_string());
  return kExitFailed;
}

std::string human_bytes(int64_t bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1000 && unit < 4) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.2f} {}", value, kUnits[unit]);
}

std::string human_seconds(double seconds) {
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const int64_t whole = static_cast<int64_t>(seconds + 0.5);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

int64_t peak_memory_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::atoll(line.c_str() + 6) * 1024;
  }
  return 0;
}

ProgressLine::ProgressLine(std::string label)
    : label_(std::move(label)),
      terminal_(::isatty(STDERR_FILENO) != 0),
      start_(Clock::now()),
      last_print_(start_ - std::chrono::hours(1)) {}

ProgressLine::~ProgressLine() {
  finish();
}

std::string progress_text(std::string_view label, int64_t done, int64_t total,
                          std::string_view detail, double elapsed,
                          std::optional<double> seconds_left) {
  std::string text =
      fmt::format("{} {}/{} {}, {} elapsed", label, done, total, detail, human_seconds(elapsed));
  if (seconds_left) text += fmt::format(", ETA {}", human_seconds(*seconds_left));
  return text;
}

void ProgressLine::update(int64_t done, int64_t total, std::string_view detail) {
  std::optional<double> seconds_left;
  if (done > 0 && done < total) {
    const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
    seconds_left = elapsed / static_cast<double>(done) * static_cast<double>(total - done);
  }
  update(done, total, detail, seconds_left, done == total);
}

void ProgressLine::update(int64_t done, int64_t total, std::string_view detail,
                          std::optional<double> seconds_left, bool last) {
  const Clock::time_point now = Clock::now();
  const auto pause = terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10000);
  if (now - last_print_ < pause && !last) return;
  last_print_ = now;
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const std::string line = progress_text(label_, done, total, detail, elapsed, seconds_left);
  if (terminal_) {
    print_err("\r\033[K{}", line);
    std::fflush(stderr);
    open_ = true;
  } else {
    print_err("{}\n", line);
  }
}

void ProgressLine::finish() {
  if (open_) print_err("\n");
  open_ = false;
}

}  // namespace abq::tools
