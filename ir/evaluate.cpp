// One function per op: what it computes.
#include <algorithm>
#include <numeric>

#include "ir/interpreter.h"
#include "ir/weight_access.h"
#include "quant/affine.h"
#include "quant/reference_gemm.h"

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
  const auto bits = static_cast<int>(e.node.int_attribute("bits"));
  const quant::QuantizedTokens tokens = quant::quantize_tokens(y.view(), bits);
  y.integers.resize(y.data.size());
  y.row_scales = tokens.scales;
  for (int64_t r = 0; r < y.rows; ++r) {
    for (int64_t c = 0; c < y.cols; ++c) {
      const auto at = static_cast<size_t>(r * y.cols + c);
      y.integers[at] = static_cast<float>(tokens.codes[at] - tokens.zeros[static_cast<size_t>(r)]);
      y.data[at] = y.row_scales[static_cast<size_t>(r)] * y.integers[at];
    }
  }
  return y;
}

// Adds sum over k of [first_k, first_k + depth) of the integers of x and w to sums[M, rows].
void add_integer_products(const Evaluation& e, const Matrix& x, MatrixView<const float> w,
                          int64_t first_k, int64_t depth, std::vector<int64_t>& sums) {
  // Sums of 256 products of two whole numbers of at most 255 stay below 2^24: exact in float32,
  // whatever order the device adds in.
  constexpr int64_t kExactDepth = 256;
  for (int64_t k = first_k; k < first_k + depth; k += kExactDepth) {
    const int64_t piece = std::min(kExactDepth, first_k + depth - k);
    std::vector<float> columns(static_cast<size_t>(w.rows * piece));
    for (int64_t r = 0; r < w.rows; ++r)
      std::copy_n(w.row(r) + k, piece, columns.data() + r * piece);
    Matrix products = make_matrix(x.rows, w.rows);
    e.device.linear({x.integers.data() + k, x.rows, piece, x.cols},
                    {compute::FloatType::kF32, columns.data(), w.rows, piece}, products.view());
    for (size_t i = 0; i < sums.size(); ++i)
      sums[i] += static_cast<int64_t>(products.data[i]);
  }
}

// One strip of output channels, y = s_x s_w sum (q_x - z_x)(q_w - z_w), rounded as the contract
// says.
void eval_integer_strip(const Evaluation& e, const Matrix& x, const QuantizedWeightReader& reader,
                        MatrixView<const float> w, int64_t first, Matrix& y) {
  const int64_t groups = reader.spec().groups(reader.k());
  const int64_t depth = reader.k() / groups;
  const auto bits = e.region.type(e.node.operands[0]).code_bits;
  const bool short_sums = quant::fits_int32(reader.k(), reader.spec().levels() - 1, bits);
  std::vector<double> totals(static_cast<size_t>(x.rows * w.rows), 0.0);
  for (int64_t g = 0; g < groups; ++g) {
    std::vector<int64_t> sums(totals.size(), 0);
    add_integer_products(e, x, w, g * depth, depth, sums);
    for (int64_t m = 0; m < x.rows; ++m) {
      for (int64_t r = 0; r < w.rows; ++r) {
        const auto at = static_cast<size_t>(m * w.rows + r);
        const float scale = x.row_scales[static_cast<size_t>(m)] * reader.scale(first + r, g);
        totals[at] += groups == 1 && short_sums
                          ? static_cast<double>(static_cast<float>(sums[at]) * scale)
                          : static_cast<double>(sums[at]) * scale;
      }
    }
  }
  for (int64_t m = 0; m < x.rows; ++m) {
    for (int64_t r = 0; r < w.rows; ++r)
      y.view().row(m)[first + r] = static_cast<float>(totals[static_cast<size_t>(m * w.rows + r)]);
  }
}

// A strip of output channels at a time, so that W' never exists as a whole.
Result<Matrix> eval_bit_linear(const Evaluation& e) {
  const Matrix& x = e.matrix(0);
  const bool integer = !x.row_scales.empty();
  ABQ_ASSIGN_OR_RETURN(const QuantizedWeightReader reader,
                       QuantizedWeightReader::create(e.module, e.region, e.node));
  Matrix y = make_matrix(x.rows, reader.n());
  Matrix w = make_matrix(std::min(kDequantizedRows, reader.n()), reader.k());
  for (int64_t first = 0; first < reader.n(); first += kDequantizedRows) {
    const int64_t rows = std::min(kDequantizedRows, reader.n() - first);
    const MatrixView<float> strip(w.data.data(), rows, w.cols);
    if (integer) {
      ABQ_RETURN_IF_ERROR(reader.read_integers(first, strip));
      eval_integer_strip(e, x, reader, strip, first, y);
      continue;
    }
    ABQ_RETURN_IF_ERROR(reader.read_rows(first, strip));
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

Result<Matrix> eval_hadamard(const Evaluation& e) {
  Matrix y = e.matrix(0);
  e.device.hadamard(y.view(), e.node.int_attribute("size"), false);
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
    case Op::kHadamard:
      return eval_hadamard(e);
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
