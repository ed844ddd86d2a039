#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>

#include "ir/text.h"
#include "ir/verifier.h"
#include "passes/layers.h"
#include "passes/pass.h"

namespace abq::passes {
namespace {

bool is_block_pass(const Pass& pass) {
  return dynamic_cast<const BlockPass*>(&pass) != nullptr;
}

bool is_model_pass(const Pass& pass) {
  return dynamic_cast<const ModelPass*>(&pass) != nullptr;
}

bool is_graph_pass(const Pass& pass) {
  return dynamic_cast<const GraphPass*>(&pass) != nullptr;
}

// What a reproducer shows. A graph pass sees no weights, so their bytes stay out of it (and digests
// of a whole checkpoint are not computed), and those of a model pass are the whole checkpoint; a
// block pass sees its block alone.
ir::Module snapshot(const ir::Module& module, const ir::Region* region) {
  if (region != nullptr) return extract_region(module, *region);
  ir::Module shapes = module;
  for (auto& [name, tensor] : shapes.tensors)
    tensor.data = {};
  return shapes;
}

// `region` is null for a graph or model pass.
Status run_on(Pass& pass, ir::Module& module, ir::Region* region, PassContext& context) {
  if (is_model_pass(pass)) return dynamic_cast<ModelPass&>(pass).run(module, context);
  if (region == nullptr) return dynamic_cast<GraphPass&>(pass).run(module, context);
  auto& block_pass = dynamic_cast<BlockPass&>(pass);
  return region->kind == ir::RegionKind::kBlock ? block_pass.run(module, *region, context)
                                                : block_pass.run_end(module, *region, context);
}

}  // namespace

Status PassManager::add(std::string_view pass_name) {
  ABQ_ASSIGN_OR_RETURN(std::unique_ptr<Pass> pass, create_pass(pass_name));
  add(std::string(pass_name), std::move(pass));
  return {};
}

void PassManager::add(std::string name, std::unique_ptr<Pass> pass) {
  entries_.push_back({std::move(name), std::move(pass)});
}

Status PassManager::check_order() const {
  const auto is_graph = [](const Entry& entry) { return is_graph_pass(*entry.pass); };
  const auto first = std::find_if_not(entries_.begin(), entries_.end(), is_graph);
  const auto last = std::find_if_not(entries_.rbegin(), entries_.rend(), is_graph).base();
  for (auto entry = first; entry < last; ++entry)
    if (is_graph(*entry))
      return invalid_argument(
          "pass {}: works on the whole module and stands between passes on single blocks; move it "
          "before {} or after {}",
          entry->name, first->name, std::prev(last)->name);
  for (auto entry = first; entry < last; ++entry)
    if (is_model_pass(*entry->pass) &&
        (entry == first || std::next(entry) == last || !is_block_pass(*std::next(entry)->pass)))
      return invalid_argument("pass {}: needs passes on single blocks before and after it",
                              entry->name);
  return {};
}

Status PassManager::check_print_after() const {
  const std::string& name = options_.print_after;
  if (name.empty() || name == "all") return {};
  std::vector<std::string_view> names;
  for (const Entry& entry : entries_)
    names.push_back(entry.name);
  if (std::find(names.begin(), names.end(), name) != names.end()) return {};
  return invalid_argument("print-after '{}': no such pass here; expected all, {}", name,
                          fmt::join(names, ", "));
}

Status PassManager::run(ir::Module& module, PassContext& context, const BlockSink& sink,
                        const Progress& progress) {
  ABQ_RETURN_IF_ERROR(check_order());
  ABQ_RETURN_IF_ERROR(check_print_after());
  timings_.clear();
  for (const Entry& entry : entries_)
    timings_.push_back({entry.name, 0});

  const std::span<Entry> all(entries_);
  size_t begin = 0;
  while (begin < all.size() && is_graph_pass(*all[begin].pass)) {
    if (progress) progress(0, 0, all[begin].name);
    ABQ_RETURN_IF_ERROR(run_pass(all[begin], module, nullptr, context));
    ++begin;
  }
  size_t end = begin;
  while (end < all.size() && !is_graph_pass(*all[end].pass))
    ++end;
  ABQ_RETURN_IF_ERROR(run_rounds(all.subspan(begin, end - begin), module, context, sink, progress));
  context.float_stream = {};
  context.quantized_stream = {};
  for (Entry& entry : all.subspan(end))
    ABQ_RETURN_IF_ERROR(run_pass(entry, module, nullptr, context));
  return {};
}

Status PassManager::run_rounds(std::span<Entry> passes, ir::Module& module, PassContext& context,
                               const BlockSink& sink, const Progress& progress) {
  while (true) {
    const auto end = std::find_if(passes.begin(), passes.end(),
                                  [](const Entry& entry) { return is_model_pass(*entry.pass); });
    const auto count = static_cast<size_t>(end - passes.begin());
    const bool last = end == passes.end();
    ABQ_RETURN_IF_ERROR(run_block_passes(passes.first(count), module, context,
                                         last ? sink : BlockSink(), progress));
    if (last) return {};
    if (progress) progress(0, 0, end->name);
    ABQ_RETURN_IF_ERROR(run_pass(*end, module, nullptr, context));
    passes = passes.subspan(count + 1);
  }
}

Status PassManager::run_block_passes(std::span<Entry> passes, ir::Module& module,
                                     PassContext& context, const BlockSink& sink,
                                     const Progress& progress) {
  const int64_t total =
      std::count_if(module.regions.begin(), module.regions.end(),
                    [](const ir::Region& region) { return region.kind == ir::RegionKind::kBlock; });
  ABQ_RETURN_IF_ERROR(run_ends(passes, ir::RegionKind::kEmbed, module, context));
  int64_t done = 0;
  for (ir::Region& block : module.regions) {
    if (block.kind != ir::RegionKind::kBlock) continue;
    for (Entry& entry : passes) {
      if (progress) progress(done, total, entry.name);
      ABQ_RETURN_IF_ERROR(run_pass(entry, module, &block, context));
    }
    context.finish_block();
    if (sink) {
      if (const Status status = sink(module, block); !status.ok())
        return status.with_context(block.name);
      free_tensors(module, block);
    }
    ++done;
  }
  ABQ_RETURN_IF_ERROR(run_ends(passes, ir::RegionKind::kHead, module, context));
  if (progress && total > 0) progress(total, total, "");
  return {};
}

Status PassManager::run_ends(std::span<Entry> passes, ir::RegionKind kind, ir::Module& module,
                             PassContext& context) {
  for (ir::Region& region : module.regions) {
    if (region.kind != kind) continue;
    for (Entry& entry : passes)
      if (dynamic_cast<const BlockPass&>(*entry.pass).has_ends())
        ABQ_RETURN_IF_ERROR(run_pass(entry, module, &region, context));
  }
  return {};
}

Status PassManager::run_pass(Entry& entry, ir::Module& module, ir::Region* region,
                             PassContext& context) {
  std::optional<ir::Module> last_good;
  if (!options_.reproducer_dir.empty()) last_good = snapshot(module, region);

  const auto start = std::chrono::steady_clock::now();
  Status status = run_on(*entry.pass, module, region, context);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  timings_[static_cast<size_t>(&entry - entries_.data())].seconds += elapsed.count();

  if (status.ok() && options_.verify_each)
    if (const Status broken = ir::verify(module); !broken.ok())
      status = internal_error("broke the IR: {}", broken.message());
  if (!status.ok())
    return failure(entry, region, status, context, last_good ? &*last_good : nullptr);
  if (options_.print_after == "all" || options_.print_after == entry.name)
    fmt::print(stderr, "; after {}{}{}\n{}", entry.name, region != nullptr ? " on " : "",
               region != nullptr ? region->name : "", ir::print(snapshot(module, region)));
  return {};
}

// A model pass runs between rounds of block passes alone: its command has all of them.
std::string PassManager::command_line(const Entry& failed, const PassContext& context) const {
  std::vector<std::string_view> names;
  for (const Entry& entry : entries_)
    if (&entry == &failed || (is_model_pass(*failed.pass) && !is_graph_pass(*entry.pass)))
      names.push_back(entry.name);
  return fmt::format("abq opt --passes={} --scheme {}", fmt::join(names, ","),
                     quant::to_string(context.recipe.scheme));
}

Status PassManager::failure(const Entry& entry, const ir::Region* region, const Status& cause,
                            const PassContext& context, const ir::Module* last_good) const {
  const std::string subject = region != nullptr
                                  ? fmt::format("pass {} on {}", entry.name, region->name)
                                  : fmt::format("pass {}", entry.name);
  if (last_good == nullptr) return cause.with_context(subject);
  const std::string path =
      fmt::format("{}/{}{}{}.air", options_.reproducer_dir, entry.name,
                  region != nullptr ? "." : "", region != nullptr ? region->name : "");
  std::ofstream file(path);
  file << "; " << command_line(entry, context) << "\n" << ir::print(*last_good);
  file.close();
  const std::string message =
      file ? fmt::format("{}\nthe IR before this pass is in {}", cause.message(), path)
           : fmt::format("{}\nthe IR before this pass could not be written to {}", cause.message(),
                         path);
  return Status(cause.code(), message).with_context(subject);
}

}  // namespace abq::passes
