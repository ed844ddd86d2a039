#include "ir/verifier.h"

#include <doctest/doctest.h>

#include "ir/text.h"
#include "tests/ir/tiny_model.h"

namespace abq::ir {

namespace {

constexpr std::string_view kModel = R"(module @m
tensor @table : f32[8, 4] = fill 1
tensor @norm : f32[4] = fill 1
tensor @square : bf16[4, 4]
tensor @narrow : bf16[2, 4]
tensor @codes : u8[6, 64] = fill 1
tensor @planes : planes<3>[6, 64]
tensor @scales : f32[6, 1] = fill 1
tensor @zeros : u8[6, 1] = fill 1
tensor @wide : bf16[64, 4]
tensor @frequencies : f32[1] = [1]
embed @embed(%tokens: i32[T]) -> (%e) {
  %t = weight @table : f32[8, 4]
  %e = embedding "lookup" %tokens, %t : f32[T, 4]
}
block @layers.0(%x: f32[T, 4]) -> (%sum) {
  %w = weight @norm : f32[4]
  %n = rms_norm "norm" %x, %w {eps = 1e-05} : f32[T, 4]
  %square = weight @square : bf16[4, 4]
  %narrow = weight @narrow : bf16[2, 4]
  %q = linear "q" %n, %square : f32[T, 4]
  %k = linear "k" %n, %narrow : f32[T, 2]
  %v = linear "v" %n, %narrow : f32[T, 2]
  %qr = rope "q_rope" %q {head_dim = 2, frequencies = "frequencies"} : f32[T, 4]
  %a = attention "core" %qr, %k, %v {layer = 0, heads = 2, kv_heads = 1, head_dim = 2, window = 0, query_bits = 4, kv_bits = 16} : f32[T, 4]
  %g = silu_mul "act" %a, %n : f32[T, 4]
  %sum = add "sum" %g, %x : f32[T, 4]
}
block @layers.1(%x: f32[T, 4]) -> (%x) {
  %wide = weight @wide : bf16[64, 4]
  %up = linear "up" %x, %wide : f32[T, 64]
  %u = quantize_tokens "up_tokens" %up {bits = 8} : tokens<8>[T, 64]
  %codes = weight @codes : u8[6, 64]
  %planes = weight @planes : planes<3>[6, 64]
  %scales = weight @scales : f32[6, 1]
  %zeros = weight @zeros : u8[6, 1]
  %b = bit_linear "down" %u, %codes, %scales, %zeros {bits = 3, balanced = 0, group_size = 0, symmetric = 0} : f32[T, 6]
  %c = bit_linear "packed" %up, %planes, %scales, %zeros {bits = 2, balanced = 1, group_size = 0, symmetric = 1} : f32[T, 6]
}
head @head(%x: f32[T, 4]) -> (%logits) {
  %t = weight @table : f32[8, 4]
  %logits = linear "lm_head" %x, %t : f32[T, 8]
}
)";

Module parse_or_fail(const std::string& text) {
  Result<Module> module = parse(text);
  REQUIRE_MESSAGE(module.ok(), module.status().message());
  return std::move(*module);
}

// The verifier's words on kModel with the first `from` replaced by `to`.
std::string refusal(const std::string& from, const std::string& to) {
  std::string text(kModel);
  const size_t at = text.find(from);
  REQUIRE_MESSAGE(at != std::string::npos, from);
  text.replace(at, from.size(), to);
  return verify(parse_or_fail(text)).message();
}

struct Refusal {
  const char* from;
  const char* to;
  const char* message;
};

void check_refusals(std::span<const Refusal> cases) {
  for (const Refusal& c : cases) {
    const std::string message = refusal(c.from, c.to);
    CHECK_MESSAGE(message.find(c.message) != std::string::npos,
                  c.from << " -> " << c.to << "\nsaid: " << message << "\nwanted: " << c.message);
  }
}

}  // namespace

TEST_CASE("a sound module passes") {
  const Status status = verify(parse_or_fail(std::string(kModel)));
  CHECK_MESSAGE(status.ok(), status.message());
  CHECK(verify(make_tiny_model()).ok());
  CHECK(verify(Module{}).ok());
}

TEST_CASE("attributes that are missing, unknown or of another type are refused") {
  const Refusal cases[] = {
      {" {eps = 1e-05}", "",
       "layers.0: norm: attribute eps is missing; rms_norm needs it as float"},
      {"eps = 1e-05", "eps = \"x\"",
       "layers.0: norm: attribute eps is of type string, expected float"},
      {"eps = 1e-05", "eps = 1e-05, axis = 1", "layers.0: norm: rms_norm has no attribute axis"},
  };
  check_refusals(cases);
}

TEST_CASE("a wrong number of operands is refused") {
  CHECK(refusal("\"sum\" %g, %x", "\"sum\" %g") ==
        "layers.0: sum: add has 1 operands, expected 2 (rule: a node has the operands of the op "
        "table)");
}

TEST_CASE("types and attributes that do not fit an op are refused") {
  const Refusal cases[] = {
      {"%t = weight @table", "%t = weight @missing", "embed: %t: tensor @missing is not declared"},
      {"@table : f32[8, 4]\n  %e", "@table : f32[9, 4]\n  %e",
       "the value is f32[9, 4], but tensor @table is f32[8, 4]"},
      {"%tokens: i32[T]", "%tokens: f32[T, 1]", "lookup: tokens is f32[T, 1], expected i32[T]"},
      {"%tokens, %t : f32[T, 4]", "%tokens, %t : f32[T, 5]",
       "lookup: the result is f32[T, 5], expected f32[T, 4]"},
      {"eps = 1e-05", "eps = -1.0", "norm: eps = -1, expected 0 <= eps < 1"},
      {"\"norm\" %x, %w", "\"norm\" %x, %x", "norm: weight is a computed value, expected a weight"},
      {"\"q\" %n, %square", "\"q\" %n, %w", "q: w is f32[4], expected a tensor with 2 dimensions"},
      {"@wide : bf16[64, 4]\ntensor", "@wide : bf16[64, 3]\ntensor", "tensor @wide is bf16[64, 3]"},
      {"%t : f32[T, 8]", "%t : f32[T, 7]", "lm_head: the result is f32[T, 7], expected f32[T, 8]"},
      {"\"act\" %a, %n", "\"act\" %a, %k", "act: up is f32[T, 2], expected f32[T, 4]"},
      {"\"sum\" %g, %x", "\"sum\" %g, %k", "sum: b is f32[T, 2], expected f32[T, 4]"},
  };
  check_refusals(cases);
}

TEST_CASE("a linear whose inputs do not match its weight is refused") {
  CHECK(refusal("\"up\" %x, %wide : f32[T, 64]",
                "\"up\" %x, %wide : f32[T, 64] %o = linear \"o\" %up, %wide : f32[T, 64]")
            .find("o: w is bf16[64, 4], expected [N, 64], as x has K=64") != std::string::npos);
}

TEST_CASE("rope and attention are held to their head mathematics") {
  const Refusal cases[] = {
      {"head_dim = 2, freq", "head_dim = 3, freq", "head_dim = 3, expected an even number above 0"},
      {"head_dim = 2, freq", "head_dim = 6, freq", "head_dim = 6, expected a divisor of K=4"},
      {"frequencies = \"frequencies\"", "frequencies = \"none\"",
       "tensor @none with the frequencies"},
      {"head_dim = 2, freq", "head_dim = 4, freq",
       "tensor @frequencies with the frequencies is f32[1], expected f32[2]"},
      {"heads = 2, kv_heads = 1", "heads = 2, kv_heads = 3",
       "heads = 2, expected a multiple of kv_heads = 3"},
      {"heads = 2, kv_heads = 1", "heads = 0, kv_heads = 1", "heads = 0, expected 1 to 1048576"},
      {"heads = 2, kv_heads = 1", "heads = 4, kv_heads = 1",
       "core: q is f32[T, 4], expected f32[T, 8]"},
      {"heads = 2, kv_heads = 1", "heads = 2, kv_heads = 2",
       "core: k is f32[T, 2], expected f32[T, 4]"},
      {"query_bits = 4", "query_bits = 1", "query_bits = 1, expected 2 to 8, or 16"},
      {"kv_bits = 16", "kv_bits = 9", "kv_bits = 9, expected 2 to 8, or 16"},
      {"window = 0", "window = -1", "window = -1, expected 0 (all earlier tokens) or more"},
      {"layer = 0", "layer = -1", "layer = -1, expected 0 or more"},
  };
  check_refusals(cases);
}

TEST_CASE("a hadamard is held to sizes that there are and that divide its columns") {
  const std::string up = "%u = quantize_tokens \"up_tokens\" %up";
  const auto with = [&](const std::string& node) { return refusal(up, node + " " + up); };
  CHECK(with("%h = hadamard \"h\" %up {size = 16} : f32[T, 64]").empty());
  CHECK(with("%h = hadamard \"h\" %up {size = 1} : f32[T, 64]")
            .find("h: size = 1, expected a divisor of K=64 above 1") != std::string::npos);
  CHECK(with("%h = hadamard \"h\" %up {size = 48} : f32[T, 64]")
            .find("size = 48, expected a divisor of K=64") != std::string::npos);
  CHECK(with("%h = hadamard \"h\" %up {size = 16} : f32[T, 32]")
            .find("the result is f32[T, 32], expected f32[T, 64]") != std::string::npos);
  CHECK(with("%s = weight @six : f32[6, 4] %x6 = linear \"x6\" %x, %s : f32[T, 6] "
             "%h = hadamard \"h\" %x6 {size = 6} : f32[T, 6]")
            .find("tensor @six is not declared") != std::string::npos);
}

TEST_CASE("quantized tokens and weights are held to their quantizer") {
  const Refusal cases[] = {
      {"%up {bits = 8}", "%up {bits = 9}", "up_tokens: bits = 9, expected 1 to 8"},
      {"tokens<8>", "tokens<7>", "the result is tokens<7>[T, 64], expected tokens<8>[T, 64]"},
      {"{bits = 3, bal", "{bits = 0, bal", "down: bits = 0, expected 1 to 8"},
      {"bits = 3, balanced = 0", "bits = 3, balanced = 1", "bit balance is for 1 and 2 bits only"},
      {"balanced = 0", "balanced = 2", "balanced = 2, expected 0 or 1"},
      {"symmetric = 0", "symmetric = 5", "symmetric = 5, expected 0 or 1"},
      {"group_size = 0", "group_size = -32", "group_size = -32, expected 0"},
      {"group_size = 0", "group_size = 48", "down: group size 48"},
      {"group_size = 0", "group_size = 32", "down: scales is f32[6, 1], expected f32[6, 2]"},
      {"%u, %codes, %scales", "%u, %scales, %scales", "codes is f32[6, 1], expected [N, 64]"},
      {"%u, %codes, %scales, %zeros", "%u, %codes, %scales, %scales",
       "zeros is f32[6, 1], expected u8[6, 1]"},
      {"%up, %planes", "%x, %planes", "packed: codes is planes<3>[6, 64], expected [N, 4]"},
      {"bits = 2, balanced = 1", "bits = 2, balanced = 0",
       "packed: codes is planes<3>[6, 64], expected planes<2>"},
  };
  check_refusals(cases);
}

TEST_CASE("base-5 and base-3 codes are for five and three levels") {
  std::string text(kModel);
  for (size_t at = text.find("planes<3>"); at != std::string::npos; at = text.find("planes<3>"))
    text.replace(at, 9, "base5<3>");
  CHECK(verify(parse_or_fail(text)).ok());
  const size_t at = text.find("bits = 2, balanced = 1");
  text.replace(at, 22, "bits = 3, balanced = 0");
  CHECK(verify(parse_or_fail(text))
            .message()
            .find("packed: codes is base5<3>[6, 64], expected codes of 8 levels") !=
        std::string::npos);
}

TEST_CASE("regions out of order, nameless or with the same name are refused") {
  const Refusal cases[] = {
      {"block @layers.1", "head @layers.1", "head: head region after head region layers.1"},
      {"block @layers.1", "embed @layers.1", "layers.1: embed region after block region layers.0"},
      {"@layers.1", "@layers.0", "two regions are named layers.0"},
      {"@layers.1", "@\"\"", "a region has no name"},
  };
  check_refusals(cases);
}

TEST_CASE("names of nodes and numbers of attention layers are unique in the module") {
  const Refusal cases[] = {
      {"\"up\"", "\"sum\"", "layers.1: two nodes are named sum"},
      {"\"up\"", "\"\"", "layers.1: %up: the node has no name"},
      {"%sum = add",
       "%a2 = attention \"core2\" %qr, %k, %v {layer = 0, heads = 2, kv_heads = 1, head_dim = 2, "
       "window = 0, query_bits = 4, kv_bits = 16} : f32[T, 4] %sum = add",
       "layers.0: core2: layer = 0 belongs to core already"},
  };
  check_refusals(cases);
}

TEST_CASE("a region that does not take what the one before it gives is refused") {
  CHECK(refusal("-> (%x)", "-> (%up)") ==
        "head: the argument is f32[T, 4], but layers.1 gives f32[T, 64] (rule: a region takes what "
        "the "
        "one before it gives)");
  CHECK(refusal("-> (%sum)", "-> (%sum, %g)").find("layers.0: 1 arguments and 2 results") !=
        std::string::npos);
}

TEST_CASE("tensors of no size or with data of another size are refused") {
  CHECK(refusal("@norm : f32[4] = fill 1", "@norm : f32[0]").find("tensor @norm: type f32[0]") !=
        std::string::npos);
  Module module = parse_or_fail(std::string(kModel));
  module.tensors["norm"].data = TensorData::from_vector(std::vector<float>{1});
  CHECK(verify(module).message().find("tensor @norm: 4 bytes of data, expected 16 for f32[4]") !=
        std::string::npos);
}

// What the parser never lets through, but a pass may build.
TEST_CASE("graphs that are not in SSA form are refused") {
  Module module = parse_or_fail(std::string(kModel));
  Region& block = module.regions[1];
  std::string wanted;
  SUBCASE("operand out of range") {
    block.nodes[1].operands[0] = 99;
    wanted = "layers.0: norm: operand is no value: 99";
  }
  SUBCASE("result out of range") {
    block.nodes[1].result = -1;
    wanted = "layers.0: norm: result is no value: -1";
  }
  SUBCASE("region result out of range") {
    block.results[0] = 1000;
    wanted = "layers.0: no value 1000";
  }
  SUBCASE("used before defined") {
    std::swap(block.nodes[1], block.nodes[4]);
    wanted = "layers.0: q: %n is used before it is defined";
  }
  SUBCASE("defined twice") {
    block.nodes[5].result = block.nodes[4].result;
    wanted = "layers.0: k: %q is defined twice";
  }
  SUBCASE("result never defined") {
    block.results[0] = block.add_value("ghost", activation_type(4));
    wanted = "layers.0: result %ghost is never defined";
  }
  SUBCASE("two values with one name") {
    block.values[static_cast<size_t>(block.nodes[4].result)].name = "n";
    wanted = "layers.0: two values are named %n";
  }
  SUBCASE("a value without a name") {
    block.values[static_cast<size_t>(block.nodes[4].result)].name = "";
    wanted = "has no name";
  }
  SUBCASE("a weight with a name of its own") {
    block.nodes[0].name = "w";
    wanted = "layers.0: w: a weight has no name of its own";
  }
  const std::string message = verify(module).message();
  CHECK_MESSAGE(message.find(wanted) != std::string::npos, message);
}

TEST_CASE("several faults are reported together, one per line") {
  std::string text(kModel);
  for (const char* name : {"\"q\" %n, %square", "\"k\" %n, %narrow"}) {
    const size_t at = text.find(name);
    text.replace(at, std::string(name).size(), std::string(name).substr(0, 4) + "%n, %w");
  }
  const std::string message = verify(parse_or_fail(text)).message();
  CHECK(message.find("layers.0: q: ") != std::string::npos);
  CHECK(message.find("\nlayers.0: k: ") != std::string::npos);
}

}  // namespace abq::ir
