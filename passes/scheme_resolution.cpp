#include "passes/scheme_resolution.h"

#include <fnmatch.h>

#include <algorithm>
#include <numeric>

namespace abq::passes {
namespace {

// Levenshtein distance, one row of the table at a time.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

bool pattern_matches(const std::string& pattern, const std::string& name) {
  return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

quant::Scheme requested_scheme(const quant::Recipe& recipe, const std::string& layer) {
  quant::Scheme scheme = recipe.scheme;
  for (const quant::LayerOverride& override : recipe.overrides)
    if (pattern_matches(override.pattern, layer)) scheme = override.scheme;
  scheme.kv_bits = 16;
  scheme.query_bits = 16;
  return scheme;
}

std::vector<std::string> nearest_names(std::string_view pattern, std::span<const std::string> names,
                                       size_t count) {
  std::vector<std::pair<size_t, std::string>> ranked;
  for (const std::string& name : names)
    ranked.emplace_back(edit_distance(pattern, name), name);
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> nearest;
  for (size_t i = 0; i < std::min(count, ranked.size()); ++i)
    nearest.push_back(ranked[i].second);
  return nearest;
}

}  // namespace abq::passes
