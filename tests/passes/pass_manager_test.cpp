#include <doctest/doctest.h>

#include <unistd.h>

#include <filesystem>

#include "ir/text.h"
#include "test_model.h"

namespace abq::passes::testing {
namespace {

using Log = std::vector<std::string>;

// A graph or model pass.
template <class Shape>
struct LoggingModulePass : Shape {
  LoggingModulePass(std::string n, Log& l) : name(std::move(n)), log(l) {}
  Status run(ir::Module&, PassContext&) override {
    log.push_back(name);
    return {};
  }
  std::string name;
  Log& log;
};

using LoggingGraphPass = LoggingModulePass<GraphPass>;
using LoggingModelPass = LoggingModulePass<ModelPass>;

struct LoggingBlockPass : BlockPass {
  LoggingBlockPass(std::string n, Log& l) : name(std::move(n)), log(l) {}
  Status run(ir::Module&, ir::Block& block, PassContext&) override {
    log.push_back(name + "@" + block.name);
    return {};
  }
  std::string name;
  Log& log;
};

// Fails on one block after it has half-changed it.
struct FailingPass : BlockPass {
  Status run(ir::Module&, ir::Block& block, PassContext&) override {
    if (block.name != "layers.1") return {};
    block.nodes.clear();
    return invalid_argument("layers.1.mlp.up: it broke");
  }
};

template <class Shape>
struct BreakingPass : Shape {
  Status run(ir::Module& module, PassContext&) override {
    module.regions[1].nodes.pop_back();  // the region's result has no producer now
    return {};
  }
};

struct TemporaryFolder {
  TemporaryFolder() { std::filesystem::create_directories(path); }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
  PassManager::Options for_reproducers() const {
    PassManager::Options options;
    options.reproducer_dir = path.string();
    return options;
  }
  std::filesystem::path path = std::filesystem::temp_directory_path() /
                               ("abq_pass_manager_test_" + std::to_string(::getpid()));
};

}  // namespace

TEST_CASE("graph passes run once, block passes block by block, each block then goes to the sink") {
  ir::Module module = make_test_model();
  PassContext context;
  Log log;
  PassManager manager({});
  manager.add("g", std::make_unique<LoggingGraphPass>("g", log));
  manager.add("a", std::make_unique<LoggingBlockPass>("a", log));
  manager.add("b", std::make_unique<LoggingBlockPass>("b", log));
  manager.add("h", std::make_unique<LoggingGraphPass>("h", log));
  const auto sink = [&](ir::Module& m, ir::Block& block) {
    log.push_back("sink@" + block.name);
    CHECK(m.tensors.at("model." + block.name + ".q_proj.weight").data.present());
    return Status();
  };
  REQUIRE(manager.run(module, context, sink).ok());
  CHECK(log == Log{"g", "a@layers.0", "b@layers.0", "sink@layers.0", "a@layers.1", "b@layers.1",
                   "sink@layers.1", "h"});
  CHECK(!module.tensors.at("model.layers.0.q_proj.weight").data.present());
  CHECK(module.tensors.at("lm_head.weight").data.present());
  REQUIRE(manager.timings().size() == 4);
  CHECK(manager.timings()[2].pass == "b");
}

TEST_CASE("embed and head go through the block passes that have something to do there") {
  struct LoggingEndsPass : LoggingBlockPass {
    using LoggingBlockPass::LoggingBlockPass;
    bool has_ends() const override { return true; }
    Status run_end(ir::Module&, ir::Region& end, PassContext&) override {
      log.push_back(name + "@" + end.name);
      return {};
    }
  };
  ir::Module module = make_test_model();
  PassContext context;
  Log log;
  PassManager manager({});
  manager.add("graph", std::make_unique<LoggingGraphPass>("graph", log));
  manager.add("ends", std::make_unique<LoggingEndsPass>("ends", log));
  manager.add("block", std::make_unique<LoggingBlockPass>("block", log));
  REQUIRE(manager.run(module, context).ok());
  CHECK(log == Log{"graph", "ends@embed", "ends@layers.0", "block@layers.0", "ends@layers.1",
                   "block@layers.1", "ends@head"});
}

TEST_CASE("a tensor that another block still needs outlives the first") {
  ir::Module module = make_test_model();
  PassContext context;
  PassManager manager({});
  const auto sink = [](ir::Module& m, ir::Block&) {
    CHECK(m.tensors.at("rope.frequencies").data.present());
    return Status();
  };
  REQUIRE(manager.run(module, context, sink).ok());
}

TEST_CASE("a graph pass between block passes is refused with where to put it") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8");
  PassManager manager({});
  for (const char* name : {"calibrate", "assign-schemes", "quantize"})
    REQUIRE(manager.add(name).ok());
  const Status status = manager.run(module, context);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message() ==
        "pass assign-schemes: works on the whole module and stands between passes on single "
        "blocks; move it before calibrate or after quantize");
}

TEST_CASE("a model pass ends a round: all blocks before it, all blocks after it, sunk once") {
  ir::Module module = make_test_model();
  PassContext context;
  Log log;
  PassManager manager({});
  manager.add("one", std::make_unique<LoggingBlockPass>("one", log));
  manager.add("whole", std::make_unique<LoggingModelPass>("whole", log));
  manager.add("two", std::make_unique<LoggingBlockPass>("two", log));
  const auto sink = [&](ir::Module&, ir::Block& block) {
    log.push_back("sink@" + block.name);
    return Status();
  };
  REQUIRE(manager.run(module, context, sink).ok());
  CHECK(log == Log{"one@layers.0", "one@layers.1", "whole", "two@layers.0", "sink@layers.0",
                   "two@layers.1", "sink@layers.1"});
}

TEST_CASE("a model pass at either end, or behind another, is refused") {
  const auto run = [](const std::vector<std::string>& order) {
    ir::Module module = make_test_model();
    PassContext context;
    Log log;
    PassManager manager({});
    for (const std::string& name : order) {
      if (name == "block") {
        manager.add(name, std::make_unique<LoggingBlockPass>(name, log));
      } else {
        manager.add(name, std::make_unique<LoggingModelPass>(name, log));
      }
    }
    const Status status = manager.run(module, context);
    CHECK(log.empty());
    return status.message();
  };
  CHECK(run({"model", "block"}) == "pass model: needs passes on single blocks before and after it");
  CHECK(run({"block", "model"}) == "pass model: needs passes on single blocks before and after it");
  CHECK(run({"block", "model", "second", "block"}) ==
        "pass model: needs passes on single blocks before and after it");
}

TEST_CASE("printing after a pass that is not in the pipeline is refused with those that are") {
  ir::Module module = make_test_model();
  PassContext context;
  Log log;
  PassManager manager({.print_after = "quantise", .reproducer_dir = {}});
  manager.add("one", std::make_unique<LoggingGraphPass>("one", log));
  manager.add("two", std::make_unique<LoggingBlockPass>("two", log));
  const Status status = manager.run(module, context);
  CHECK(status.message() == "print-after 'quantise': no such pass here; expected all, one, two");
  CHECK(log.empty());
}

TEST_CASE("a failing pass is named with its block, and the last good IR is written") {
  const TemporaryFolder folder;
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8");
  PassManager manager(folder.for_reproducers());
  manager.add("fail", std::make_unique<FailingPass>());
  const Status status = manager.run(module, context);
  const std::string path = (folder.path / "fail.layers.1.air").string();
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message() ==
        "pass fail on layers.1: layers.1.mlp.up: it broke\nthe IR before this pass is in " + path);

  const Result<std::string> text = read_text_file(path);
  REQUIRE(text.ok());
  CHECK(text->starts_with("; abq opt --passes=fail --scheme w4a8\n"));
  const Result<ir::Module> reproducer = ir::parse(*text, path);
  REQUIRE(reproducer.ok());
  CHECK(reproducer->regions.size() == 1);
  CHECK(reproducer->regions[0].nodes.size() ==
        region_named(make_test_model(), "layers.1").nodes.size());
}

TEST_CASE("the reproducer of a model pass names the rounds of passes around it") {
  const TemporaryFolder folder;
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8");
  PassManager manager(folder.for_reproducers());
  Log log;
  manager.add("before", std::make_unique<LoggingBlockPass>("before", log));
  manager.add("break", std::make_unique<BreakingPass<ModelPass>>());
  manager.add("behind", std::make_unique<LoggingBlockPass>("behind", log));
  REQUIRE(!manager.run(module, context).ok());
  const Result<std::string> text = read_text_file((folder.path / "break.air").string());
  REQUIRE(text.ok());
  CHECK(text->starts_with("; abq opt --passes=before,break,behind --scheme w4a8\n"));
}

TEST_CASE("without a reproducer folder a failure is just named") {
  ir::Module module = make_test_model();
  PassContext context;
  PassManager manager({});
  manager.add("fail", std::make_unique<FailingPass>());
  CHECK(manager.run(module, context).message() ==
        "pass fail on layers.1: layers.1.mlp.up: it broke");
}

TEST_CASE("a reproducer that cannot be written does not hide the failure") {
  ir::Module module = make_test_model();
  PassContext context;
  PassManager::Options options;
  options.reproducer_dir = "/nowhere/at/all";
  PassManager manager(options);
  manager.add("fail", std::make_unique<FailingPass>());
  const std::string message = manager.run(module, context).message();
  CHECK(message.find("layers.1.mlp.up: it broke\nthe IR before this pass could not be written to "
                     "/nowhere/at/all/fail.layers.1.air") != std::string::npos);
}

TEST_CASE("a pass that breaks the IR is caught when it has run, as a bug of ours") {
  ir::Module module = make_test_model();
  PassContext context;
  PassManager manager({});
  manager.add("break", std::make_unique<BreakingPass<GraphPass>>());
  const Status status = manager.run(module, context);
  CHECK(status.code() == StatusCode::kInternal);
  CHECK(status.message().starts_with("pass break: broke the IR: "));
}

TEST_CASE("a failing sink stops the run, naming the block") {
  ir::Module module = make_test_model();
  PassContext context;
  PassManager manager({});
  const auto sink = [](ir::Module&, ir::Block&) { return io_error("model.abq: disk full"); };
  const Status status = manager.run(module, context, sink);
  CHECK(status.code() == StatusCode::kIo);
  CHECK(status.message() == "layers.0: model.abq: disk full");
}

TEST_CASE("progress counts blocks and ends at the total") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8");
  PassManager manager({});
  for (const char* name : {"assign-schemes", "balance-bits", "quantize"})
    REQUIRE(manager.add(name).ok());
  Log seen;
  REQUIRE(manager
              .run(module, context, {},
                   [&](int64_t done, int64_t total, std::string_view pass) {
                     seen.push_back(fmt::format("{}/{} {}", done, total, pass));
                   })
              .ok());
  CHECK(seen ==
        Log{"0/0 assign-schemes", "0/0 balance-bits", "0/2 quantize", "1/2 quantize", "2/2 "});
}

TEST_CASE("after the last block the calibration stream is free") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8");
  context.calibration_windows = make_windows(2, 8);
  REQUIRE(run_passes({"calibrate"}, module, context).ok());
  CHECK(context.float_stream.empty());
  CHECK(context.input_statistics.empty());
  CHECK(context.quality_inputs.empty());
}

}  // namespace abq::passes::testing
