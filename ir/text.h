// The textual form of a module: complete but for the bytes of tensors over 16 elements, which print
// as digests. parse(print(m)) prints the same. docs/ir.md has the grammar.
#pragma once

#include <string>
#include <string_view>

#include "ir/graph.h"

namespace abq::ir {

std::string print(const Module& module);
// InvalidArgument as "<name>:line:column: what is wrong, what was expected".
Result<Module> parse(std::string_view text, std::string_view name = "module");

}  // namespace abq::ir
