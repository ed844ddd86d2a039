// Runs the real `abq` binary as a person would, and shows what came back.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace abq::test {

struct ProcessResult {
  int exit_code = -1;  // -1 when a signal ended it
  int signal = 0;      // that signal, else 0
  std::string out;
  std::string err;
};

struct ProcessOptions {
  std::string input = {};  // stdin
  // Sent once the child's stderr has shown `signal_after` and the file `signal_at_file`, if one is
  // named, exists.
  int send_signal = 0;
  std::string signal_after = {};
  std::string signal_at_file = {};
  // The reading end of stdout is closed before the child writes.
  bool close_stdout = false;
  // stdout goes to this file instead of a pipe.
  std::string stdout_file = {};
  // RLIMIT_FSIZE: no file may grow beyond this, as on a full disk.
  std::optional<int64_t> file_size_limit = {};
};

// `abq arguments...` to its end. A child that runs longer than a
// minute is killed, which shows as its signal.
ProcessResult run_abq(const std::vector<std::string>& arguments,
                      const ProcessOptions& options = {});

}  // namespace abq::test
