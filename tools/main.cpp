// `abq`: compile a checkpoint to a quantized artifact, inspect, run and measure it.
#include <csignal>
#include <new>
#include <string>

#include "backend/backend.h"
#include "support/log.h"
#include "support/parallel.h"
#include "support/version.h"
#include "tools/commands.h"
#include "tools/console.h"

namespace abq::tools {
namespace {

// Ctrl-C and its like: a half-written artifact goes, then the signal does what it always does.
extern "C" void end_by_signal(int signal) {
  backend::remove_named_temporary_files();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void set_signals() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    // What the parent ignores (nohup) stays ignored.
    if (std::signal(signal, end_by_signal) == SIG_IGN) std::signal(signal, SIG_IGN);
  }
  // Both become errors of the write that caused them, which can then say what it was writing.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace
}  // namespace abq::tools

int main(int argc, char** argv) {
  using namespace abq::tools;
  CLI::App app(
      "Quantizes large language models to any bit width and runs them.\n"
      "\n"
      "  abq compile MODEL_DIR -o model.abq --scheme w4a8\n"
      "  abq inspect model.abq\n"
      "  abq run model.abq -p \"Once upon a time\" -n 64",
      "abq");
  app.set_version_flag("--version", std::string("abq ") + std::string(abq::version()));
  app.require_subcommand(1);
  app.fallthrough();
  app.failure_message(CLI::FailureMessage::help);

  std::string log_level = "info";
  int threads = 0;
  app.add_option("--log-level", log_level, "trace, debug, info, warn, error or off")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}))
      ->capture_default_str();
  app.add_option("--threads", threads, "CPU threads; 0 = one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  // Runs before any subcommand's callback.
  app.parse_complete_callback([&] {
    abq::init_logging(log_level);
    abq::set_num_threads(threads);
  });

  int exit_code = kExitOk;
  add_compile_command(app, exit_code);
  add_inspect_command(app, exit_code);
  add_run_command(app, exit_code);
  add_eval_command(app, exit_code);
  add_bench_command(app, exit_code);
  add_opt_command(app, exit_code);
  add_doctor_command(app, exit_code);

  set_signals();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return finish_output(code == 0 ? kExitOk : kExitUsage);
  } catch (const std::bad_alloc&) {
    print_err("abq: error: out of memory\n");
    exit_code = kExitFailed;
  }
  return finish_output(exit_code);
}
