#include "tests/ir/tiny_model.h"

#include <cmath>

#include "support/checksum.h"
#include "support/random.h"

namespace abq::ir {

namespace {

constexpr double kEps = 1e-5;

ValueId random_weight(Builder& builder, const std::string& name, std::vector<int64_t> shape,
                      double scale) {
  return builder.weight(
      name, random_f32_tensor(std::move(shape), checksum64(std::as_bytes(std::span(name))), scale));
}

ValueId projection(Builder& builder, const std::string& node, ValueId x, int64_t n, int64_t k) {
  return builder.linear(node, x, random_weight(builder, "model." + node + ".weight", {n, k}, 0.3));
}

void build_block(Module& module, const TinyShape& shape, int64_t layer) {
  Region& region = module.regions.emplace_back();
  region.name = fmt::format("layers.{}", layer);
  Builder b(module, region);
  const auto name = [&](const char* part) { return fmt::format("layers.{}.{}", layer, part); };
  const int64_t kv = shape.kv_heads * shape.head_dim;
  const ValueId x = b.argument("x", activation_type(shape.hidden));
  const ValueId norm =
      b.rms_norm(name("input_norm"), x,
                 random_weight(b, name("input_norm.weight"), {shape.hidden}, 1.0), kEps);
  const int64_t q_size = shape.heads * shape.head_dim;
  const ValueId q = projection(b, name("attn.q"), norm, q_size, shape.hidden);
  const ValueId k = projection(b, name("attn.k"), norm, kv, shape.hidden);
  const ValueId v = projection(b, name("attn.v"), norm, kv, shape.hidden);
  const ValueId q_rope = b.rope(name("attn.q_rope"), q, shape.head_dim, "rope.frequencies");
  const ValueId k_rope = b.rope(name("attn.k_rope"), k, shape.head_dim, "rope.frequencies");
  const ValueId attention =
      b.node(Op::kAttention, name("attn.core"), {q_rope, k_rope, v}, activation_type(q_size),
             {{"layer", layer},
              {"heads", shape.heads},
              {"kv_heads", shape.kv_heads},
              {"head_dim", shape.head_dim},
              {"window", shape.window},
              {"query_bits", int64_t{16}},
              {"kv_bits", int64_t{16}}});
  const ValueId o = projection(b, name("attn.o"), attention, shape.hidden, q_size);
  const ValueId middle = b.add(name("attn_residual"), x, o);
  const ValueId norm2 =
      b.rms_norm(name("post_norm"), middle,
                 random_weight(b, name("post_norm.weight"), {shape.hidden}, 1.0), kEps);
  const ValueId gate = projection(b, name("mlp.gate"), norm2, shape.intermediate, shape.hidden);
  const ValueId up = projection(b, name("mlp.up"), norm2, shape.intermediate, shape.hidden);
  const ValueId act = b.silu_mul(name("mlp.act"), gate, up);
  const ValueId down = projection(b, name("mlp.down"), act, shape.hidden, shape.intermediate);
  b.result(b.add(name("mlp_residual"), middle, down));
}

MatrixD naive_norm(const MatrixD& x, const MatrixD& weight) {
  MatrixD y = x;
  for (Eigen::Index t = 0; t < x.rows(); ++t) {
    const double mean = x.row(t).squaredNorm() / static_cast<double>(x.cols());
    y.row(t) = x.row(t).cwiseProduct(weight.row(0)) / std::sqrt(mean + kEps);
  }
  return y;
}

MatrixD naive_block(const Module& module, const TinyShape& shape, int64_t layer, const MatrixD& x) {
  const auto w = [&](const char* part) {
    return tensor_to_double(module, fmt::format("model.layers.{}.{}.weight", layer, part));
  };
  const auto norm_weight = [&](const char* part) {
    return tensor_to_double(module, fmt::format("layers.{}.{}.weight", layer, part));
  };
  const MatrixD frequencies = tensor_to_double(module, "rope.frequencies");
  const MatrixD h = naive_norm(x, norm_weight("input_norm"));
  const MatrixD q = naive_rope(h * w("attn.q").transpose(), shape.head_dim, frequencies);
  const MatrixD k = naive_rope(h * w("attn.k").transpose(), shape.head_dim, frequencies);
  const MatrixD v = h * w("attn.v").transpose();
  const MatrixD middle = x + naive_attention(shape, q, k, v) * w("attn.o").transpose();
  const MatrixD h2 = naive_norm(middle, norm_weight("post_norm"));
  const MatrixD gate = h2 * w("mlp.gate").transpose();
  const MatrixD up = h2 * w("mlp.up").transpose();
  const MatrixD act =
      gate.unaryExpr([](double g) { return g / (1 + std::exp(-g)); }).cwiseProduct(up);
  return middle + act * w("mlp.down").transpose();
}

}  // namespace

Tensor random_f32_tensor(std::vector<int64_t> shape, uint64_t seed, double scale) {
  Random random(seed);
  int64_t count = 1;
  for (const int64_t dim : shape)
    count *= dim;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values)
    value = static_cast<float>(scale * random.normal());
  return make_f32_tensor(std::move(shape), values);
}

Matrix random_matrix(int64_t rows, int64_t cols, uint64_t seed, double scale) {
  Random random(seed);
  Matrix matrix = make_matrix(rows, cols);
  for (float& value : matrix.data)
    value = static_cast<float>(scale * random.normal());
  return matrix;
}

Module make_tiny_model(const TinyShape& shape) {
  Module module;
  module.name = "tiny";
  module.attributes = {{"context", int64_t{64}}, {"family", std::string("llama")}};
  module.regions.reserve(static_cast<size_t>(shape.layers) + 2);
  std::vector<float> frequencies;
  for (int64_t j = 0; j < shape.head_dim / 2; ++j) {
    frequencies.push_back(static_cast<float>(
        std::pow(10000.0, -2.0 * static_cast<double>(j) / static_cast<double>(shape.head_dim))));
  }
  module.tensors["rope.frequencies"] = make_f32_tensor({shape.head_dim / 2}, frequencies);

  Region& embed = module.regions.emplace_back();
  embed.kind = RegionKind::kEmbed;
  embed.name = "embed";
  Builder e(module, embed);
  const ValueId tokens = e.argument("tokens", {ElementType::kI32, 0, {kTokenDim}});
  const ValueId table = random_weight(e, "embed.weight", {shape.vocab, shape.hidden}, 1.0);
  e.result(e.embedding("embed.lookup", tokens, table));

  for (int64_t layer = 0; layer < shape.layers; ++layer)
    build_block(module, shape, layer);

  Region& head = module.regions.emplace_back();
  head.kind = RegionKind::kHead;
  head.name = "head";
  Builder h(module, head);
  const ValueId x = h.argument("x", activation_type(shape.hidden));
  const ValueId norm =
      h.rms_norm("head.norm", x, random_weight(h, "head.norm.weight", {shape.hidden}, 1.0), kEps);
  h.result(projection(h, "lm_head", norm, shape.vocab, shape.hidden));
  return module;
}

MatrixD to_double(const Matrix& matrix) {
  MatrixD result(matrix.rows, matrix.cols);
  for (int64_t i = 0; i < matrix.rows * matrix.cols; ++i)
    result.data()[i] = static_cast<double>(matrix.data[static_cast<size_t>(i)]);
  return result;
}

MatrixD tensor_to_double(const Module& module, const std::string& name) {
  const Tensor& tensor = module.tensors.at(name);
  const bool vector = tensor.type.shape.size() == 1;
  Matrix matrix{vector ? 1 : tensor.type.shape[0], tensor.type.shape.back(), {}};
  Result<std::vector<float>> values = to_float(tensor);
  ABQ_CHECK(values.ok());
  matrix.data = std::move(*values);
  return to_double(matrix);
}

double relative_difference(const Matrix& a, const MatrixD& b) {
  ABQ_CHECK(a.rows == b.rows() && a.cols == b.cols());
  return (to_double(a) - b).cwiseAbs().maxCoeff() / b.cwiseAbs().maxCoeff();
}

MatrixD naive_rope(MatrixD x, int64_t head_dim, const MatrixD& frequencies) {
  const int64_t half = head_dim / 2;
  for (Eigen::Index t = 0; t < x.rows(); ++t) {
    for (Eigen::Index head = 0; head < x.cols(); head += head_dim) {
      for (int64_t j = 0; j < half; ++j) {
        const double angle = static_cast<double>(t) * frequencies(0, j);
        const double a = x(t, head + j);
        const double b = x(t, head + j + half);
        x(t, head + j) = a * std::cos(angle) - b * std::sin(angle);
        x(t, head + j + half) = b * std::cos(angle) + a * std::sin(angle);
      }
    }
  }
  return x;
}

MatrixD naive_attention(const TinyShape& shape, const MatrixD& q, const MatrixD& k,
                        const MatrixD& v) {
  MatrixD y = MatrixD::Zero(q.rows(), q.cols());
  const int64_t d = shape.head_dim;
  for (int64_t head = 0; head < shape.heads; ++head) {
    const int64_t kv_head = head / (shape.heads / shape.kv_heads);
    for (Eigen::Index t = 0; t < q.rows(); ++t) {
      const Eigen::Index first = shape.window > 0 ? std::max<int64_t>(0, t - shape.window + 1) : 0;
      const Eigen::Index count = t - first + 1;
      Eigen::VectorXd p = k.block(first, kv_head * d, count, d) *
                          q.block(t, head * d, 1, d).transpose() /
                          std::sqrt(static_cast<double>(d));
      p = (p.array() - p.maxCoeff()).exp();
      p /= p.sum();
      y.block(t, head * d, 1, d) = p.transpose() * v.block(first, kv_head * d, count, d);
    }
  }
  return y;
}

MatrixD naive_logits(const Module& module, const TinyShape& shape,
                     std::span<const int32_t> tokens) {
  const MatrixD table = tensor_to_double(module, "embed.weight");
  MatrixD x(static_cast<Eigen::Index>(tokens.size()), shape.hidden);
  for (size_t t = 0; t < tokens.size(); ++t)
    x.row(static_cast<Eigen::Index>(t)) = table.row(tokens[t]);
  for (int64_t layer = 0; layer < shape.layers; ++layer)
    x = naive_block(module, shape, layer, x);
  return naive_norm(x, tensor_to_double(module, "head.norm.weight")) *
         tensor_to_double(module, "model.lm_head.weight").transpose();
}

}  // namespace abq::ir
