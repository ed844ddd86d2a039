#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>

#include "artifact_forge.h"
#include "backend/backend.h"
#include "runtime/plan.h"

using namespace abq;
using namespace abq::test;
using backend::ArtifactWriter;
using Entries = std::vector<std::string>;

namespace {

// Copies the forged model through the writer, up to the uncommitted plan.
Status write_tiny(ArtifactWriter& writer) {
  const Forge forge = tiny_model();
  for (size_t i = 0; i < forge.blobs.size(); ++i) {
    const proto::Blob& blob = forge.plan.blobs(static_cast<int>(i));
    ABQ_ASSIGN_OR_RETURN(
        const uint32_t index,
        writer.add_blob(blob.name(), blob.type(), {blob.shape().begin(), blob.shape().end()},
                        blob.code_bits(), std::as_bytes(std::span(forge.blobs[i]))));
    if (index != i) return internal_error("blob {} became {}", i, index);
  }
  return writer.write_plan(forge.plan);
}

std::unique_ptr<ArtifactWriter> make_writer(const std::string& path,
                                            ArtifactWriter::Options options = {}) {
  auto writer = ArtifactWriter::create(path, options);
  REQUIRE_MESSAGE(writer.ok(), writer.status().to_string());
  return std::move(writer).value();
}

// Runs `body` in a child process, which stops itself on SIGSTOP; then ends it by `signal`.
void kill_while(int signal, const std::function<void()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    // The test framework's own handlers would report a crash.
    std::signal(SIGINT, SIG_DFL);
    std::signal(SIGTERM, SIG_DFL);
    body();
    ::raise(SIGSTOP);
    ::_exit(0);
  }
  int state = 0;
  REQUIRE(::waitpid(child, &state, WUNTRACED) == child);
  REQUIRE(WIFSTOPPED(state));
  ::kill(child, signal);
  ::kill(child, SIGCONT);
  REQUIRE(::waitpid(child, &state, 0) == child);
  CHECK(WIFSIGNALED(state));
}

}  // namespace

TEST_CASE("what the writer writes, the reader reads") {
  const ScratchFolder folder;
  const std::string path = folder.file("model.abq");
  for (const bool named : {false, true}) {
    const auto writer = make_writer(path, {.overwrite = true, .named_temporary_file = named});
    REQUIRE(write_tiny(*writer).ok());
    CHECK(runtime::LoadedPlan::open(writer->temporary_path(), runtime::Verify::kAll).ok());
    REQUIRE(writer->commit().ok());
    const auto plan = runtime::LoadedPlan::open(path, runtime::Verify::kAll);
    REQUIRE_MESSAGE(plan.ok(), plan.status().to_string());
    CHECK((*plan)->file_size() == writer->size());
    CHECK(folder.entries() == Entries{"model.abq"});
  }
}

TEST_CASE("the same input gives the same bytes") {
  const ScratchFolder folder;
  for (const char* name : {"a", "b"}) {
    const auto writer = make_writer(folder.file(name));
    REQUIRE(write_tiny(*writer).ok());
    REQUIRE(writer->commit().ok());
  }
  CHECK(read_file(folder.file("a")) == read_file(folder.file("b")));
}

TEST_CASE("a plan can be rewritten, longer or shorter, and blobs can follow it") {
  const ScratchFolder folder;
  const auto writer = make_writer(folder.file("model.abq"));
  REQUIRE(write_tiny(*writer).ok());
  const int64_t first_size = writer->size();
  proto::Plan longer = tiny_model().plan;
  longer.mutable_provenance()->set_tool_version(std::string(5000, 'v'));
  REQUIRE(writer->write_plan(longer).ok());
  CHECK(writer->size() > first_size + 5000);
  REQUIRE(writer->write_plan(tiny_model().plan).ok());
  CHECK(writer->size() == first_size);
  const std::string bytes = "{}";
  REQUIRE(
      writer->add_blob("config.json", proto::BYTES, {2}, 0, std::as_bytes(std::span(bytes))).ok());
  CHECK(writer->commit().code() == StatusCode::kInternal);
  REQUIRE(writer->write_plan(tiny_model().plan).ok());
  REQUIRE(writer->commit().ok());
  const Status read =
      runtime::LoadedPlan::open(folder.file("model.abq"), runtime::Verify::kAll).status();
  CHECK_MESSAGE(read.ok(), read.to_string());
}

TEST_CASE("an existing file is kept unless overwriting is asked for") {
  const ScratchFolder folder;
  const std::string path = folder.file("model.abq");
  write_file(path, "precious");
  const Status refused = ArtifactWriter::create(path, {}).status();
  CHECK(refused.code() == StatusCode::kInvalidArgument);
  CHECK(refused.message() == path + ": exists; use --force to replace it");
  {
    const auto writer = make_writer(path, {.overwrite = true});
    REQUIRE(write_tiny(*writer).ok());
    CHECK(read_file(path) == "precious");  // until commit
  }
  CHECK(read_file(path) == "precious");  // and after giving up
  CHECK(folder.entries() == Entries{"model.abq"});
}

TEST_CASE("a file that appears while compiling is not replaced") {
  const ScratchFolder folder;
  const auto writer = make_writer(folder.file("model.abq"));
  REQUIRE(write_tiny(*writer).ok());
  write_file(folder.file("model.abq"), "precious");
  CHECK(!writer->commit().ok());
  CHECK(read_file(folder.file("model.abq")) == "precious");
}

TEST_CASE("targets that cannot be written are refused before any work") {
  const ScratchFolder folder;
  write_file(folder.file("file"), "x");
  const auto refusal = [](const std::string& path) {
    return ArtifactWriter::create(path, {.overwrite = true}).status();
  };
  CHECK(refusal(folder.file("none/model.abq")).code() == StatusCode::kNotFound);
  CHECK(refusal(folder.file("none/model.abq")).message().find("create it first") !=
        std::string::npos);
  CHECK(refusal(folder.file("file/model.abq")).code() == StatusCode::kIo);
  CHECK(refusal(folder.path()).code() == StatusCode::kInvalidArgument);
  CHECK(refusal("/dev/null").code() == StatusCode::kInvalidArgument);
  CHECK(refusal(folder.file("")).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("nothing is left behind by a writer that gives up") {
  const ScratchFolder folder;
  for (const bool named : {false, true}) {
    const auto writer = make_writer(folder.file("model.abq"), {.named_temporary_file = named});
    REQUIRE(write_tiny(*writer).ok());
    CHECK(folder.entries().size() == (named ? 1 : 0));
  }
  CHECK(folder.entries().empty());
}

TEST_CASE("a full disk is reported with the bytes wanted, and nothing is left behind") {
  const ScratchFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    // The nearest thing to a full disk that needs no rights: a limit on the size of files.
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    auto writer = ArtifactWriter::create(folder.file("model.abq"), {});
    if (!writer.ok()) ::_exit(2);
    const Status status = write_tiny(**writer);
    const bool told = status.code() == StatusCode::kIo &&
                      status.message().find("cannot write ") != std::string::npos &&
                      status.message().find("bytes at byte ") != std::string::npos;
    writer.value().reset();
    ::_exit(told ? 0 : 3);
  }
  int state = 0;
  REQUIRE(::waitpid(child, &state, 0) == child);
  REQUIRE(WIFEXITED(state));
  CHECK(WEXITSTATUS(state) == 0);
  CHECK(folder.entries().empty());
}

TEST_CASE("a process ended by a signal leaves nothing behind") {
  const ScratchFolder folder;
  for (const int signal : {SIGINT, SIGTERM, SIGKILL}) {
    kill_while(signal, [&] {
      auto writer = ArtifactWriter::create(folder.file("model.abq"), {});
      if (!writer.ok() || !write_tiny(**writer).ok()) ::_exit(2);
      (void)writer.value().release();  // no destructor runs in a process that is killed
    });
    CHECK(folder.entries().empty());
  }
}

TEST_CASE("a hidden name is removed from a signal handler") {
  const ScratchFolder folder;
  for (const int signal : {SIGINT, SIGTERM}) {
    kill_while(signal, [&] {
      for (const int handled : {SIGINT, SIGTERM}) {
        std::signal(handled, [](int number) {
          backend::remove_named_temporary_files();
          std::signal(number, SIG_DFL);
          std::raise(number);
        });
      }
      auto writer =
          ArtifactWriter::create(folder.file("model.abq"), {.named_temporary_file = true});
      if (!writer.ok() || !write_tiny(**writer).ok()) ::_exit(2);
      (void)writer.value().release();
    });
    CHECK(folder.entries().empty());
  }
}

TEST_CASE("a blob without bytes is refused by name") {
  const ScratchFolder folder;
  const auto writer = make_writer(folder.file("model.abq"));
  CHECK(writer->add_blob("empty", proto::BYTES, {0}, 0, {}).status().message() ==
        "empty: has no bytes to store");
}
