#include "ir/interpreter.h"

#include <doctest/doctest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>

#include "compute/reference/reference_device.h"
#include "ir/text.h"
#include "ir/verifier.h"
#include "quant/affine.h"
#include "tests/ir/tiny_model.h"

namespace abq::ir {

namespace {

// Error of a float32 sum of products, relative to the largest value; far below any real fault.
constexpr double kTolerance = 2e-5;

// A block with one op on x, from text.
struct OneOp {
  Module module;

  OneOp(const std::string& tensors, const std::string& type, const std::string& body) {
    Result<Module> parsed =
        parse("module @m " + tensors + " block @b(%x: " + type + ") -> (%y) {" + body + "}");
    REQUIRE_MESSAGE(parsed.ok(), parsed.status().message());
    module = std::move(*parsed);
    const Status status = verify(module);
    REQUIRE_MESSAGE(status.ok(), status.message());
  }
  Result<Matrix> run(const Matrix& x) const {
    return Interpreter().run(module, module.regions[0], x);
  }
};

}  // namespace

TEST_CASE("rms_norm divides by the root mean square and multiplies by the weight") {
  const OneOp op("tensor @w : f32[2] = [1, 10]", "f32[T, 2]",
                 "%w = weight @w : f32[2] %y = rms_norm \"n\" %x, %w {eps = 0} : f32[T, 2]");
  const Result<Matrix> y = op.run({1, 2, {1, 7}});  // mean square 25
  REQUIRE(y.ok());
  CHECK(y->data[0] == doctest::Approx(0.2));
  CHECK(y->data[1] == doctest::Approx(14));
}

TEST_CASE("linear is x times the transposed weight, in every float type") {
  for (const char* type : {"f32", "f16", "bf16"}) {
    const OneOp op(
        fmt::format("tensor @w : {}[3, 2] = [1, 2, 3, 4, 5, 6]", type), "f32[T, 2]",
        fmt::format("%w = weight @w : {}[3, 2] %y = linear \"l\" %x, %w : f32[T, 3]", type));
    const Result<Matrix> y = op.run({2, 2, {1, 1, 2, -1}});
    REQUIRE(y.ok());
    CHECK(y->rows == 2);
    CHECK(y->data == std::vector<float>{3, 7, 11, 0, 2, 4});
  }
}

TEST_CASE("rope turns half-split pairs by position times frequency") {
  const OneOp op("tensor @f : f32[2] = [1, 0.25]", "f32[T, 8]",
                 "%y = rope \"r\" %x {head_dim = 4, frequencies = \"f\"} : f32[T, 8]");
  const Matrix x = random_matrix(5, 8, 1);
  const Result<Matrix> y = op.run(x);
  REQUIRE(y.ok());
  MatrixD frequencies(1, 2);
  frequencies << 1, 0.25;
  CHECK(relative_difference(*y, naive_rope(to_double(x), 4, frequencies)) < kTolerance);
}

TEST_CASE("attention is causal softmax over grouped heads, within its window") {
  for (const int64_t window : {0, 3}) {
    TinyShape shape;
    shape.heads = 2;
    shape.kv_heads = 1;
    shape.head_dim = 4;
    shape.window = window;
    const OneOp op(
        "tensor @k : f32[4, 8] = random seed 1 scale 1 tensor @v : f32[4, 8] = random seed 2 "
        "scale 1",
        "f32[T, 8]",
        fmt::format("%wk = weight @k : f32[4, 8] %wv = weight @v : f32[4, 8] %k = linear \"k\" "
                    "%x, %wk : f32[T, 4] %v = linear \"v\" %x, %wv : f32[T, 4] %y = attention "
                    "\"a\" %x, %k, %v {{layer = 0, heads = 2, kv_heads = 1, head_dim = 4, "
                    "window = {}, query_bits = 16, kv_bits = 16}} : f32[T, 8]",
                    window));
    const Matrix x = random_matrix(7, 8, 3);
    const MatrixD k = to_double(x) * tensor_to_double(op.module, "k").transpose();
    const MatrixD v = to_double(x) * tensor_to_double(op.module, "v").transpose();
    const Result<Matrix> y = op.run(x);
    REQUIRE(y.ok());
    CHECK(relative_difference(*y, naive_attention(shape, to_double(x), k, v)) < kTolerance);
  }
}

TEST_CASE("attention quantizes q, k and v per token and head at their widths") {
  TinyShape shape;
  shape.heads = shape.kv_heads = 2;
  shape.head_dim = 4;
  const OneOp op(
      "", "f32[T, 8]",
      "%y = attention \"a\" %x, %x, %x {layer = 0, heads = 2, kv_heads = 2, head_dim = 4, "
      "window = 0, query_bits = 3, kv_bits = 4} : f32[T, 8]");
  const Matrix x = random_matrix(6, 8, 4);
  // Every head's slice of every token is a row of its own.
  Matrix q = x, kv = x;
  for (int64_t row = 0; row < 12; ++row) {
    quant::fake_quantize_tokens({q.data.data() + row * 4, 1, 4}, 3);
    quant::fake_quantize_tokens({kv.data.data() + row * 4, 1, 4}, 4);
  }
  const MatrixD expected = naive_attention(shape, to_double(q), to_double(kv), to_double(kv));
  const Result<Matrix> y = op.run(x);
  REQUIRE(y.ok());
  CHECK(relative_difference(*y, expected) < kTolerance);
}

TEST_CASE("hadamard multiplies each segment by Sylvester's matrix over the root of its size") {
  const OneOp op("", "f32[T, 8]", "%y = hadamard \"h\" %x {size = 4} : f32[T, 8]");
  const Result<Matrix> y = op.run({1, 8, {1, 2, 3, 4, 1, 0, 0, 0}});
  REQUIRE(y.ok());
  CHECK(y->data == std::vector<float>{5, -1, -2, 0, 0.5f, 0.5f, 0.5f, 0.5f});
}

TEST_CASE("hadamard keeps lengths and angles at sizes that are no powers of two") {
  const OneOp op("", "f32[T, 24]", "%y = hadamard \"h\" %x {size = 12} : f32[T, 24]");
  const Matrix x = random_matrix(5, 24, 8);
  const Result<Matrix> y = op.run(x);
  REQUIRE(y.ok());
  const MatrixD before = to_double(x), after = to_double(*y);
  CHECK((after * after.transpose() - before * before.transpose()).cwiseAbs().maxCoeff() < 1e-5);
  CHECK((after - before).cwiseAbs().maxCoeff() > 0.1);
}

TEST_CASE("silu_mul and add work element by element") {
  const OneOp silu("", "f32[T, 2]", "%y = silu_mul \"s\" %x, %x : f32[T, 2]");
  const Result<Matrix> y = silu.run({1, 2, {2, -1}});
  REQUIRE(y.ok());
  CHECK(y->data[0] == doctest::Approx(4 / (1 + std::exp(-2.0))));
  CHECK(y->data[1] == doctest::Approx(1 / (1 + std::exp(1.0))));
  const OneOp add("", "f32[T, 2]", "%y = add \"s\" %x, %x : f32[T, 2]");
  CHECK(add.run({1, 2, {2, -1}})->data == std::vector<float>{4, -2});
}

TEST_CASE("quantize_tokens gives the values that the codes stand for") {
  const OneOp op(
      "", "f32[T, 3]",
      "%q = quantize_tokens \"q\" %x {bits = 2} : tokens<2>[T, 3] %c = weight @c : u8[1, 3] "
      "%s = weight @s : f32[1, 1] %z = weight @z : u8[1, 1] %y = bit_linear \"y\" %q, %c, %s, "
      "%z {bits = 1, balanced = 0, group_size = 0, symmetric = 0} : f32[T, 1]"
      "} tensor @c : u8[1, 3] = [1, 1, 0] tensor @s : f32[1, 1] = [2] tensor @z : u8[1, 1] = [1] "
      "block @unused(%x: f32[T, 1]) -> (%x) {");
  // Range [-1, 2]: scale 1, zero 1; 0.4 rounds to 0. Binary weights: 2 (q - 1/2) = {1, 1, -1}.
  const Result<Matrix> y = op.run({1, 3, {0.4f, 2, -1}});
  REQUIRE(y.ok());
  CHECK(y->data[0] == 3.0f);
}

TEST_CASE("the whole model equals the same model written out in float64") {
  for (const int64_t window : {0, 4}) {
    TinyShape shape;
    shape.window = window;
    const Module module = make_tiny_model(shape);
    REQUIRE(verify(module).ok());
    const std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 23, 0};
    for (const compute::Device* device : {&compute::cpu_device(), &compute::reference_device()}) {
      const Result<Matrix> logits = Interpreter(*device).logits(module, tokens);
      REQUIRE_MESSAGE(logits.ok(), logits.status().message());
      CHECK(relative_difference(*logits, naive_logits(module, shape, tokens)) < kTolerance);
    }
  }
}

TEST_CASE("observers see every node once, its input before and its value after") {
  const Module module = make_tiny_model();
  std::vector<std::string> inputs, outputs;
  std::map<std::string, int64_t> columns;
  Interpreter interpreter;
  interpreter.observe_inputs([&](const Node& node, const Matrix& x) {
    inputs.push_back(node.name);
    columns[node.name] = x.cols;
    CHECK(outputs.size() + 1 == inputs.size());
  });
  interpreter.observe_outputs(
      [&](const Node& node, const Matrix&) { outputs.push_back(node.name); });
  REQUIRE(interpreter.run(module, module.regions[1], random_matrix(3, 16, 5)).ok());
  CHECK(inputs == outputs);
  CHECK(inputs.size() == 15);
  CHECK(columns.at("layers.0.mlp.down") == 24);
}

TEST_CASE("one node can be evaluated on any input") {
  const Module module = make_tiny_model();
  const Region& block = module.regions[1];
  const Matrix x = random_matrix(3, 16, 6);
  const Matrix* const operands[] = {&x, nullptr};
  for (const Node& node : block.nodes) {
    if (node.name != "layers.0.attn.k") continue;
    const Result<Matrix> y = evaluate(module, block, node, operands);
    REQUIRE(y.ok());
    const MatrixD expected =
        to_double(x) * tensor_to_double(module, "model.layers.0.attn.k.weight").transpose();
    CHECK(relative_difference(*y, expected) < kTolerance);
  }
}

TEST_CASE("weights are read from a mapped file, at whatever byte they start") {
  const std::string path =
      (std::filesystem::temp_directory_path() / "abq_interpreter_test.bin").string();
  Module module = make_tiny_model();
  const std::vector<int32_t> tokens = {7, 8, 9};
  const Result<Matrix> expected = Interpreter().logits(module, tokens);
  REQUIRE(expected.ok());
  {
    std::ofstream out(path, std::ios::binary);
    for (const auto& [name, tensor] : module.tensors) {
      out.put('x');
      const auto bytes = tensor.data.bytes();
      out.write(reinterpret_cast<const char*>(bytes.data()),
                static_cast<std::streamsize>(bytes.size()));
    }
  }
  const auto file = MappedFile::open(path);
  REQUIRE(file.ok());
  size_t offset = 0;
  for (auto& [name, tensor] : module.tensors) {
    const size_t size = tensor.data.bytes().size();
    tensor.data = TensorData::file_range(*file, offset + 1, size);
    offset += size + 1;
  }
  const Result<Matrix> logits = Interpreter().logits(module, tokens);
  std::remove(path.c_str());
  REQUIRE_MESSAGE(logits.ok(), logits.status().message());
  CHECK(logits->data == expected->data);
}

TEST_CASE("what cannot run says why") {
  Module module = make_tiny_model();
  const Interpreter interpreter;
  const std::vector<int32_t> too_large = {1, 24}, negative = {-1}, none, good = {1};
  CHECK(interpreter.logits(module, too_large).status().message() ==
        "embed.lookup: token id 24 at position 1 is outside the table of 24");
  CHECK(interpreter.embed(module, negative).status().message() ==
        "embed.lookup: token id -1 at position 0 is outside the table of 24");
  CHECK(interpreter.embed(module, none).status().message() == "embed: no tokens to run on");
  CHECK(interpreter.run(module, module.regions[1], random_matrix(1, 15, 1)).status().message() ==
        "layers.0: the input has 15 columns, expected 16");
  module.tensors["model.lm_head.weight"].data = {};
  CHECK(interpreter.logits(module, good).status().message() ==
        "lm_head: tensor @model.lm_head.weight has no data (text keeps digests only); give it "
        "values, "
        "fill or random");
  module.tensors["rope.frequencies"].data = {};
  CHECK(interpreter.logits(module, good).status().message() ==
        "layers.0.attn.q_rope: tensor @rope.frequencies: the tensor has no data");
  module.regions.pop_back();
  CHECK(interpreter.logits(module, good).status().message() == "module tiny has no head region");
}

}  // namespace abq::ir
