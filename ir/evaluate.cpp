// One function per op: what it computes.
#include <numeric>

#include "ir/interpreter.h"
#include "ir/weight_access.h"
#include "quant/affine.h"

namespace abq::ir {

namespace {

// Rows of a quantized weight that exist as float32 at one time.
constexpr int64_t kDequantizedRows = 512;

// A node and all it needs.
struct Evaluation {
  const Module& module;
  const Region& region;
  const Node& node;
  std::span<const Matrix* const> operands;
  const compute::Device& device;

  const Matrix& matrix(size_t i) const {
    ABQ_CHECK(operands[i] != nullptr);
    return *operands[i];
  }
  Result<const Tensor*> weight(size_t i) const { return weight_operand(module, region, node, i); }
};

Result<Matrix> eval_embedding(const Evaluation& e) {
  const Matrix& tokens = e.matrix(0);
  ABQ_ASSIGN_OR_RETURN(const Tensor* tensor, e.weight(1));
  const FloatWeight table = float_weight(*tensor);
  const int64_t row_bytes = table.matrix.cols * compute::float_type_bytes(table.matrix.type);
  Matrix y = make_matrix(tokens.rows, table.matrix.cols);
  for (int64_t t = 0; t < tokens.rows; ++t) {
    const auto id = static_cast<int64_t>(tokens.data[static_cast<size_t>(t)]);
    if (id < 0 || id >= table.matrix.rows) {
      return invalid_argument("token id {} at position {} is outside the table of {}", id, t,
                              table.matrix.rows);
    }
    const auto* row = static_cast<const std::byte*>(table.matrix.data) + id * row_bytes;
    compute::to_float(table.matrix.type, row, y.cols, y.view().row(t));
  }
  tensor->data.drop_pages();
  return y;
}

Result<Matrix> eval_rms_norm(const Evaluation& e) {
  const Matrix& x = e.matrix(0);
  ABQ_ASSIGN_OR_RETURN(const Tensor* tensor, e.weight(1));
  ABQ_ASSIGN_OR_RETURN(const std::vector<float> weight, to_float(*tensor));
  Matrix y = make_matrix(x.rows, x.cols);
  e.device.rms_norm(x.view(), weight.data(), static_cast<float>(e.node.float_attribute("eps")),
                    y.view());
  return y;
}

Result<Matrix> eval_linear(const Evaluation& e) {
  const Matrix& x = e.matrix(0);
  ABQ_ASSIGN_OR_RETURN(const Tensor* tensor, e.weight(1));
  const FloatWeight w = float_weight(*tensor);
  Matrix y = make_matrix(x.rows, w.matrix.rows);
  e.device.linear(x.view(), w.matrix, y.view());
  tensor->data.drop_pages();
  return y;
}

Result<Matrix> eval_quantize_tokens(const Evaluation& e) {
  Matrix y = e.matrix(0);
  quant::fake_quantize_tokens(y.view(), static_cast<int>(e.node.int_attribute("bits")));
  return y;
}

// x W'^T, a strip of output channels at a time so that W' never exists as a whole.
Result<Matrix> eval_bit_linear(const Evaluation& e) {
  const Matrix& x = e.matrix(0);
  ABQ_ASSIGN_OR_RETURN(const QuantizedWeightReader reader,
                       QuantizedWeightReader::create(e.module, e.region, e.node));
  Matrix y = make_matrix(x.rows, reader.n());
  Matrix w = make_matrix(std::min(kDequantizedRows, reader.n()), reader.k());
  for (int64_t first = 0; first < reader.n(); first += kDequantizedRows) {
    const int64_t rows = std::min(kDequantizedRows, reader.n() - first);
    ABQ_RETURN_IF_ERROR(reader.read_rows(first, {w.data.data(), rows, w.cols}));
    e.device.linear(x.view(), {compute::FloatType::kF32, w.data.data(), rows, w.cols},
                    {y.data.data() + first, y.rows, rows, y.cols});
  }
  reader.drop_pages();
  return y;
}

Result<Matrix> eval_rope(const Evaluation& e) {
  const std::string& name = e.node.string_attribute("frequencies");
  const Result<std::vector<float>> frequencies = to_float(e.module.tensors.at(name));
  if (!frequencies.ok()) return frequencies.status().with_context("tensor @" + name);
  Matrix y = e.matrix(0);
  std::vector<int64_t> positions(static_cast<size_t>(y.rows));
  std::iota(positions.begin(), positions.end(), 0);
  e.device.rope(y.view(), static_cast<int>(e.node.int_attribute("head_dim")), positions.data(),
                frequencies->data());
  return y;
}

// x with every head's slice of every token quantized on its own; x itself at 16 bits.
const Matrix& quantized_heads(const Matrix& x, int head_dim, int64_t bits, Matrix& storage) {
  if (bits >= 16) return x;
  storage = x;
  quant::fake_quantize_tokens({storage.data.data(), x.rows * (x.cols / head_dim), head_dim},
                              static_cast<int>(bits));
  return storage;
}

Result<Matrix> eval_attention(const Evaluation& e) {
  compute::AttentionShape shape;
  shape.heads = static_cast<int>(e.node.int_attribute("heads"));
  shape.kv_heads = static_cast<int>(e.node.int_attribute("kv_heads"));
  shape.head_dim = static_cast<int>(e.node.int_attribute("head_dim"));
  shape.window = e.node.int_attribute("window");
  const int64_t kv_bits = e.node.int_attribute("kv_bits");
  Matrix q_storage, k_storage, v_storage;
  const Matrix& q =
      quantized_heads(e.matrix(0), shape.head_dim, e.node.int_attribute("query_bits"), q_storage);
  const Matrix& k = quantized_heads(e.matrix(1), shape.head_dim, kv_bits, k_storage);
  const Matrix& v = quantized_heads(e.matrix(2), shape.head_dim, kv_bits, v_storage);
  Matrix y = make_matrix(q.rows, q.cols);
  e.device.attention(shape, q.view(), k.view(), v.view(), 0, y.view());
  return y;
}

Result<Matrix> eval_silu_mul(const Evaluation& e) {
  Matrix y = make_matrix(e.matrix(0).rows, e.matrix(0).cols);
  e.device.silu_mul(e.matrix(0).view(), e.matrix(1).view(), y.view());
  return y;
}

Result<Matrix> eval_add(const Evaluation& e) {
  Matrix y = make_matrix(e.matrix(0).rows, e.matrix(0).cols);
  e.device.add(e.matrix(0).view(), e.matrix(1).view(), y.view());
  return y;
}

}  // namespace

Matrix make_matrix(int64_t rows, int64_t cols) {
  return {rows, cols, std::vector<float>(static_cast<size_t>(rows * cols))};
}

Result<Matrix> dequantized_weight(const Module& module, const Region& region,
                                  const Node& bit_linear) {
  ABQ_ASSIGN_OR_RETURN(const QuantizedWeightReader reader,
                       QuantizedWeightReader::create(module, region, bit_linear));
  Matrix w = make_matrix(reader.n(), reader.k());
  ABQ_RETURN_IF_ERROR(reader.read_rows(0, w.view()));
  return w;
}

Result<Matrix> evaluate(const Module& module, const Region& region, const Node& node,
                        std::span<const Matrix* const> operands, const compute::Device& device) {
  ABQ_CHECK(operands.size() == node.operands.size());
  const Evaluation e = {module, region, node, operands, device};
  switch (node.op) {
    case Op::kWeight:
      break;  // has no value of its own: its readers take the tensor
    case Op::kEmbedding:
      return eval_embedding(e);
    case Op::kRmsNorm:
      return eval_rms_norm(e);
    case Op::kLinear:
      return eval_linear(e);
    case Op::kQuantizeTokens:
      return eval_quantize_tokens(e);
    case Op::kBitLinear:
      return eval_bit_linear(e);
    case Op::kRope:
      return eval_rope(e);
    case Op::kAttention:
      return eval_attention(e);
    case Op::kSiluMul:
      return eval_silu_mul(e);
    case Op::kAdd:
      return eval_add(e);
  }
  return internal_error("op {} cannot be evaluated", op_info(node.op).mnemonic);
}

}  // namespace abq::ir
