#include "tests/tools/process.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <utility>

namespace abq::test {
namespace {

constexpr auto kPatience = std::chrono::seconds(60);

// One end of a pipe, closed with its owner.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  ~Descriptor() { close(); }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  int get() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

struct Pipe {
  Descriptor read;
  Descriptor write;
};

Pipe make_pipe() {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

// Between fork and exec: system calls only.
[[noreturn]] void become_abq(char* const* argv, const ProcessOptions& options, int in, int out,
                             int err) {
  ::dup2(in, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  if (options.file_size_limit) {
    const auto limit = static_cast<rlim_t>(*options.file_size_limit);
    const rlimit both{limit, limit};
    ::setrlimit(RLIMIT_FSIZE, &both);
  }
  ::execv(ABQ_BINARY, argv);
  ::_exit(127);
}

// Appends what is there; false at the end of the stream.
bool read_some(int fd, std::string& text) {
  std::array<char, 65536> buffer;
  const ssize_t size = ::read(fd, buffer.data(), buffer.size());
  if (size > 0) text.append(buffer.data(), static_cast<size_t>(size));
  return size > 0;
}

bool signal_moment(const ProcessOptions& options, const ProcessResult& result) {
  if (result.err.find(options.signal_after) == std::string::npos) return false;
  return options.signal_at_file.empty() || ::access(options.signal_at_file.c_str(), F_OK) == 0;
}

// Reads both streams to their ends, sends the signal on the way, kills a child that never ends.
void talk(pid_t child, const ProcessOptions& options, Descriptor out, Descriptor err,
          ProcessResult& result) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  bool signal_due = options.send_signal != 0;
  while (out.get() >= 0 || err.get() >= 0) {
    pollfd streams[] = {{out.get(), POLLIN, 0}, {err.get(), POLLIN, 0}};
    // A file shows only when looked for.
    ::poll(streams, 2, signal_due && !options.signal_at_file.empty() ? 1 : 1000);
    if (streams[0].revents != 0 && !read_some(out.get(), result.out)) out.close();
    if (streams[1].revents != 0 && !read_some(err.get(), result.err)) err.close();
    if (signal_due && signal_moment(options, result)) {
      ::kill(child, options.send_signal);
      signal_due = false;
    }
    if (std::chrono::steady_clock::now() > deadline) ::kill(child, SIGKILL);
  }
}

}  // namespace

ProcessResult run_abq(const std::vector<std::string>& arguments, const ProcessOptions& options) {
  std::vector<std::string> words = {"abq"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words)
    argv.push_back(word.data());
  argv.push_back(nullptr);

  Pipe in = make_pipe();
  Pipe out = make_pipe();
  Pipe err = make_pipe();
  if (!options.stdout_file.empty()) {
    out.write = Descriptor(::open(options.stdout_file.c_str(), O_WRONLY | O_CLOEXEC));
    REQUIRE(out.write.get() >= 0);
  }
  if (options.close_stdout) out.read.close();
  // Small enough for the pipe's buffer, so that writing it first cannot block.
  REQUIRE(options.input.size() < 65536);
  REQUIRE(::write(in.write.get(), options.input.data(), options.input.size()) ==
          static_cast<ssize_t>(options.input.size()));
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) become_abq(argv.data(), options, in.read.get(), out.write.get(), err.write.get());
  in.write.close();
  out.write.close();
  err.write.close();

  ProcessResult result;
  talk(child, options, std::move(out.read), std::move(err.read), result);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  return result;
}

}  // namespace abq::test
