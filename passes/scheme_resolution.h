// From a recipe to the scheme of one layer: what assign-schemes and balance-bits share.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "quant/recipe.h"

namespace abq::passes {

// Shell-style match: * any characters, ? one character.
bool pattern_matches(const std::string& pattern, const std::string& name);

// The scheme that the recipe asks for: the last override that matches wins, else recipe.scheme.
// Widths of queries and the KV cache belong to attention and are 16 here.
quant::Scheme requested_scheme(const quant::Recipe& recipe, const std::string& layer);

// Up to `count` of `names`, those with the least edit distance to `pattern` first.
std::vector<std::string> nearest_names(std::string_view pattern, std::span<const std::string> names,
                                       size_t count);

}  // namespace abq::passes
