#include <doctest/doctest.h>

#include <set>

#include "ir/graph.h"
#include "support/mapped_file.h"

namespace abq::ir {

namespace {

std::string table_row(const OpInfo& info) {
  std::string operands, attributes;
  for (const std::string_view operand : info.operands)
    operands += fmt::format("{}{}", operands.empty() ? "" : ", ", operand);
  for (const OpInfo::Attribute& attribute : info.attributes) {
    attributes +=
        fmt::format("{}{}: {}", attributes.empty() ? "" : ", ", attribute.name, attribute.type);
  }
  return fmt::format("| `{}` | {} | {} | {} |\n", info.mnemonic, operands, attributes,
                     info.meaning);
}

}  // namespace

TEST_CASE("every op has a mnemonic of its own that names it") {
  std::set<std::string_view> mnemonics;
  for (const OpInfo& info : op_table()) {
    CHECK(mnemonics.insert(info.mnemonic).second);
    CHECK(op_from_mnemonic(info.mnemonic) == info.op);
    CHECK(op_info(info.op).mnemonic == info.mnemonic);
  }
  CHECK_FALSE(op_from_mnemonic("conv2d").has_value());
}

TEST_CASE("the op table splits operands and attributes") {
  const OpInfo& rope = op_info(Op::kRope);
  CHECK(rope.operands == std::vector<std::string_view>{"x"});
  REQUIRE(rope.attributes.size() == 2);
  CHECK(rope.attributes[1].name == "frequencies");
  CHECK(rope.attributes[1].type == "string");
  CHECK(op_info(Op::kWeight).operands.empty());
}

TEST_CASE("the op reference in docs/ir.md is the op table") {
  const Result<std::string> text = read_text_file(ABQ_DOCS_DIR "/ir.md");
  REQUIRE(text.ok());
  std::string expected = "| op | operands | attributes | meaning |\n|---|---|---|---|\n";
  for (const OpInfo& info : op_table())
    expected += table_row(info);
  CHECK_MESSAGE(text->find(expected) != std::string::npos, "docs/ir.md should hold this table:\n"
                                                               << expected);
}

}  // namespace abq::ir
