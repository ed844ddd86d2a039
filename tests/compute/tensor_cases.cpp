#include "tensor_cases.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "compute_test_support.h"

namespace abq::compute {
namespace {

using Tensors = std::span<const Tensor>;
using Results = std::vector<Tensor>;

// Probabilities in causal rows, zero elsewhere; the wider their spread, the more are below the
// floor.
HostMatrix random_probabilities(int64_t rows, int64_t context, float spread, uint64_t seed) {
  HostMatrix p = random_matrix(rows, context, seed);
  for (int64_t r = 0; r < rows; ++r) {
    float* const row = p.values.data() + r * context;
    double sum = 0;
    for (int64_t c = 0; c < context; ++c) {
      row[c] = c <= r % context ? std::exp(spread * row[c]) : 0.0f;
      sum += row[c];
    }
    for (int64_t c = 0; c < context; ++c)
      row[c] = static_cast<float>(row[c] / sum);
  }
  return p;
}

HostMatrix frequencies(int64_t half) {
  HostMatrix x{1, half, {}};
  for (int64_t j = 0; j < half; ++j)
    x.values.push_back(
        static_cast<float>(std::pow(10000.0, -static_cast<double>(j) / static_cast<double>(half))));
  return x;
}

std::string shape_name(std::string_view name, int64_t rows, int64_t cols) {
  return fmt::format("{} [{}, {}]", name, rows, cols);
}

Results pair(const TensorPair& p) {
  return {p.first, p.second};
}

using Shapes = std::vector<std::pair<int64_t, int64_t>>;

Shapes with_long_rows(Shapes shapes) {
  const Shapes wide = long_row_shapes();
  shapes.insert(shapes.end(), wide.begin(), wide.end());
  return shapes;
}

}  // namespace

HostMatrix random_matrix(int64_t rows, int64_t cols, uint64_t seed, double scale) {
  return {rows, cols, random_floats(rows * cols, seed, scale)};
}

double steps_of_sum(int64_t terms) {
  return 2.0 * std::sqrt(static_cast<double>(terms)) + 4.0;
}

std::vector<std::pair<int64_t, int64_t>> long_row_shapes() {
  return {{3, 2048}, {3, 4096}, {3, 11008}, {3, 16388}};
}

TensorCase on_unaligned_views(const TensorCase& aligned) {
  TensorCase shifted = aligned;
  shifted.name += " on unaligned views";
  for (HostMatrix& x : shifted.inputs) {
    if (x.rows == 0) continue;
    x.values.insert(x.values.begin(), 1e6f);  // who reads it will be seen
    x.cols = x.rows * x.cols + 1;
    x.rows = 1;
  }
  shifted.run = [aligned](TensorDevice& device, Tensors tensors) -> Results {
    Results views(tensors.begin(), tensors.end());
    for (size_t i = 0; i < views.size(); ++i) {
      const HostMatrix& x = aligned.inputs[i];
      if (!views[i].empty()) views[i] = views[i].view(1, x.rows, x.cols);
    }
    return aligned.run(device, views);
  };
  return shifted;
}

void add_unaligned(std::vector<TensorCase>& cases, size_t first) {
  for (size_t i = first, end = cases.size(); i < end; ++i)
    cases.push_back(on_unaligned_views(cases[i]));
}

std::vector<TensorCase> product_cases() {
  struct Shape {
    int64_t m, n, k;
  };
  std::vector<TensorCase> cases;
  for (const Shape& s : {Shape{1, 1, 1}, Shape{3, 70, 33}, Shape{37, 65, 300}, Shape{131, 47, 517},
                         Shape{290, 130, 64}, Shape{64, 1, 129}}) {
    const double steps = steps_of_sum(s.k);
    cases.push_back({shape_name("linear", s.m, s.n),
                     {random_matrix(s.m, s.k, 1), random_matrix(s.n, s.k, 2)},
                     steps,
                     [](TensorDevice& d, Tensors x) -> Results { return {d.linear(x[0], x[1])}; }});
    cases.push_back({shape_name("matmul", s.m, s.n),
                     {random_matrix(s.m, s.k, 3), random_matrix(s.k, s.n, 4)},
                     steps,
                     [](TensorDevice& d, Tensors x) -> Results { return {d.matmul(x[0], x[1])}; }});
    cases.push_back(
        {shape_name("transposed_matmul", s.m, s.n),
         {random_matrix(s.k, s.m, 5), random_matrix(s.k, s.n, 6)},
         steps,
         [](TensorDevice& d, Tensors x) -> Results { return {d.transposed_matmul(x[0], x[1])}; }});
  }
  return cases;
}

std::vector<TensorCase> elementwise_cases() {
  std::vector<TensorCase> cases;
  for (const auto& [rows, cols] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {5, 7}, {70, 517}, {12, 64}}) {
    const size_t first = cases.size();
    const HostMatrix a = random_matrix(rows, cols, 1, 2.0), b = random_matrix(rows, cols, 2);
    const HostMatrix c = random_matrix(rows, cols, 3);
    const auto add = [&](const char* name, double steps, auto run) {
      cases.push_back({shape_name(name, rows, cols), {a, b, c}, steps, run});
    };
    using D = TensorDevice&;
    add("add", 1, [](D d, Tensors x) -> Results { return {d.add(x[0], x[1])}; });
    add("multiply", 1, [](D d, Tensors x) -> Results { return {d.multiply(x[0], x[1])}; });
    add("accumulate", 2, [](D d, Tensors x) -> Results {
      const Tensor sum = d.copy(x[0]);
      d.accumulate(sum, x[1], -0.3f);
      return {sum};
    });
    add("silu_mul", 8, [](D d, Tensors x) -> Results { return {d.silu_mul(x[0], x[1])}; });
    add("silu_mul_backward", 12,
        [](D d, Tensors x) -> Results { return pair(d.silu_mul_backward(x[0], x[1], x[2])); });
    add("sigmoid", 6, [](D d, Tensors x) -> Results { return {d.sigmoid(x[0])}; });
    add("sigmoid_backward", 12,
        [](D d, Tensors x) -> Results { return {d.sigmoid_backward(d.sigmoid(x[0]), x[1])}; });
    add("reciprocal", 1, [](D d, Tensors x) -> Results { return {d.reciprocal(x[0])}; });
    add("reciprocal_backward", 4,
        [](D d, Tensors x) -> Results { return {d.reciprocal_backward(x[0], x[1])}; });
    add("away_from_zero", 1, [](D d, Tensors x) -> Results {
      return {d.away_from_zero(x[0], 0.5f), d.away_from_zero(d.filled(2, 3, 0.0f), 0.25f)};
    });
    // The absolute error of a logarithm is that of its argument.
    add("negative_log_abs", 4,
        [](D d, Tensors x) -> Results { return {d.negative_log_abs(x[0])}; });
    add("negative_log_abs_backward", 2,
        [](D d, Tensors x) -> Results { return {d.negative_log_abs_backward(x[0], x[1])}; });
    if (cols % 4 != 0) continue;
    add_unaligned(cases, first);
    add("accumulate of another shape", 2, [=](D d, Tensors x) -> Results {
      const Tensor sum = d.copy(x[0]);
      d.accumulate(sum, x[1].reshaped(cols, rows), -0.3f);
      return {sum};
    });
  }
  return cases;
}

std::vector<TensorCase> row_cases() {
  std::vector<TensorCase> cases;
  using D = TensorDevice&;
  for (const auto& [rows, cols] : with_long_rows({{1, 3}, {5, 100}, {200, 517}})) {
    const size_t first = cases.size();
    const HostMatrix x = random_matrix(rows, cols, 1, 3.0), dy = random_matrix(rows, cols, 2);
    const HostMatrix weight = random_matrix(1, cols, 3);
    // Sums over a row, then (the weight's gradient) over the rows.
    const double steps = steps_of_sum(rows + cols);
    cases.push_back(
        {shape_name("rms_norm", rows, cols), {x, weight, dy}, steps, [](D d, Tensors t) -> Results {
           return {d.rms_norm(t[0], t[1], 1e-5f)};
         }});
    cases.push_back({shape_name("rms_norm_backward", rows, cols),
                     {x, weight, dy},
                     steps,
                     [](D d, Tensors t) -> Results {
                       return pair(d.rms_norm_backward(t[0], t[1], 1e-5f, t[2]));
                     }});
    cases.push_back(
        {shape_name("column_statistics", rows, cols), {x}, steps, [](D d, Tensors t) -> Results {
           const Tensor y = d.column_statistics(t[0]);
           return {y.row_range(0, 1), y.row_range(1, 1), y.row_range(2, 1)};
         }});
    if (rows != 5) continue;
    add_unaligned(cases, first);
    cases.push_back({"rms_norm_backward of a weight that is a column",
                     {x, random_matrix(cols, 1, 3), dy},
                     steps,
                     [](D d, Tensors t) -> Results {
                       return pair(d.rms_norm_backward(t[0], t[1], 1e-5f, t[2]));
                     }});
  }
  for (const int64_t head_dim : {2, 6, 64}) {
    const int64_t context = 30, rows = 4 * context, cols = 3 * head_dim;
    for (const bool inverse : {false, true}) {
      cases.push_back({shape_name(inverse ? "rope back" : "rope", rows, cols),
                       {random_matrix(rows, cols, 4), frequencies(head_dim / 2)},
                       4,
                       [=](D d, Tensors t) -> Results {
                         return {d.rope(t[0], static_cast<int>(head_dim), context, t[1], inverse)};
                       }});
    }
  }
  add_unaligned(cases, cases.size() - 1);
  // Powers of two, multiples of 12 and 28, a part shorter than a vector, parts of a row, and rows
  // longer than what a block of threads usually takes.
  struct Segments {
    int64_t rows, cols, size;
  };
  for (const auto& [rows, cols, size] :
       {Segments{5, 64, 2}, Segments{37, 128, 64}, Segments{9, 96, 24}, Segments{7, 384, 384},
        Segments{3, 84, 28}, Segments{2, 4096, 4096}, Segments{2, 14336, 14336}}) {
    const size_t first = cases.size();
    for (const bool transposed : {false, true}) {
      const int64_t n = size;
      cases.push_back(
          {fmt::format("hadamard of {} in [{}, {}]{}", n, rows, cols,
                       transposed ? ", transposed" : ""),
           {random_matrix(rows, cols, 4)},
           steps_of_sum(n),
           [=](D d, Tensors t) -> Results { return {d.hadamard(t[0], n, transposed)}; }});
    }
    if (size == 24) add_unaligned(cases, first);
  }
  const size_t first = cases.size();
  cases.push_back({"repeat", {random_matrix(1, 6 * 7, 5)}, 0, [](D d, Tensors t) -> Results {
                     return {d.repeat(t[0], 7, 3), d.repeat(t[0], 42, 2), d.repeat(t[0], 1, 5)};
                   }});
  cases.push_back(
      {"repeat_backward", {random_matrix(1, 6 * 7 * 3, 5)}, 3, [](D d, Tensors t) -> Results {
         return {d.repeat_backward(t[0], 7, 3), d.repeat_backward(t[0], 1, 2)};
       }});
  cases.push_back(
      {"repeat of whole vectors", {random_matrix(6, 8, 5)}, 3, [](D d, Tensors t) -> Results {
         return {d.repeat(t[0], 8, 3), d.repeat_backward(t[0], 8, 3)};
       }});
  add_unaligned(cases, first);
  return cases;
}

std::vector<TensorCase> attention_cases() {
  struct Shape {
    AttentionShape attention;
    int64_t context, batch;
  };
  std::vector<TensorCase> cases;
  using D = TensorDevice&;
  for (const Shape& s :
       {Shape{{1, 1, 4, 0}, 1, 2}, Shape{{6, 2, 10, 0}, 37, 3}, Shape{{4, 4, 16, 5}, 150, 2},
        Shape{{3, 1, 64, 0}, 300, 1}, Shape{{2, 2, 8, 100}, 290, 1}}) {
    const AttentionShape a = s.attention;
    const int64_t context = s.context, rows = s.batch * context;
    const HostMatrix q = random_matrix(rows, int64_t{a.heads} * a.head_dim, 1);
    const HostMatrix k = random_matrix(rows, int64_t{a.kv_heads} * a.head_dim, 2);
    const HostMatrix v = random_matrix(rows, int64_t{a.kv_heads} * a.head_dim, 3);
    const HostMatrix dy = random_matrix(rows, int64_t{a.heads} * a.head_dim, 4);
    const HostMatrix dp = random_matrix(rows * a.heads, context, 5);
    const std::string name = shape_name("", context, a.head_dim);
    // An exponent's error is the score's: D products times scores of some units; then a sum over
    // the keys, and over the queries of a group for k and v.
    const double steps =
        4 * steps_of_sum(a.head_dim) + steps_of_sum(context * a.heads / a.kv_heads);
    cases.push_back({"attention_weights" + name, {q, k}, steps, [=](D d, Tensors t) -> Results {
                       return {d.attention_weights(a, context, t[0], t[1])};
                     }});
    cases.push_back(
        {"attention_weights_backward" + name, {q, k, dp}, steps, [=](D d, Tensors t) -> Results {
           const Tensor p = d.attention_weights(a, context, t[0], t[1]);
           return pair(d.attention_weights_backward(a, context, t[0], t[1], p, t[2]));
         }});
    cases.push_back({"attention_mix" + name, {q, k, v}, steps, [=](D d, Tensors t) -> Results {
                       const Tensor p = d.attention_weights(a, context, t[0], t[1]);
                       return {d.attention_mix(a, context, p, t[2])};
                     }});
    cases.push_back(
        {"attention_mix_backward" + name, {q, k, v, dy}, steps, [=](D d, Tensors t) -> Results {
           const Tensor p = d.attention_weights(a, context, t[0], t[1]);
           return pair(d.attention_mix_backward(a, context, p, t[2], t[3]));
         }});
  }
  return cases;
}

std::vector<TensorCase> loss_cases() {
  std::vector<TensorCase> cases;
  using D = TensorDevice&;
  for (const auto& [rows, cols] : with_long_rows({{1, 3}, {7, 100}, {90, 517}})) {
    const size_t first = cases.size();
    HostMatrix y = random_matrix(rows, cols, 1), t = random_matrix(rows, cols, 2);
    for (size_t i = 0; i < y.values.size(); ++i)
      y.values[i] = t.values[i] + 0.3f * y.values[i];
    // The last row is guarded: a norm of 0.
    if (rows > 1) std::fill(y.values.end() - cols, y.values.end(), 0.0f);
    const HostMatrix dloss{1, 1, {-1.7f}};
    const double steps = steps_of_sum(cols) + 4;
    const auto add = [&](const char* name, auto run) {
      cases.push_back({shape_name(name, rows, cols), {y, t, dloss}, steps, run});
    };
    add("mean_cosine", [](D d, Tensors x) -> Results { return {d.mean_cosine(x[0], x[1])}; });
    // The guarded row alone, whose gradient is 1e8 times as large, and the others.
    add("mean_cosine_backward", [rows](D d, Tensors x) -> Results {
      const Tensor dy = d.mean_cosine_backward(x[0], x[1], x[2]);
      return {dy.row_range(0, std::max<int64_t>(rows - 1, 1)), dy.row_range(rows - 1, 1)};
    });
    add("mean_squared_error",
        [](D d, Tensors x) -> Results { return {d.mean_squared_error(x[0], x[1])}; });
    add("mean_squared_error_backward", [](D d, Tensors x) -> Results {
      return {d.mean_squared_error_backward(x[0], x[1], x[2])};
    });
    if (rows == 7) add_unaligned(cases, first);
  }
  // Narrow rows, and wide ones with probabilities below the floor, whose gradients hide others.
  for (const float spread : {1.0f, 6.0f}) {
    for (const int64_t context : {1, 13, 150, 200, 1024}) {
      const int64_t rows = (context < 1024 ? 3 : 1) * context;
      const size_t first = cases.size();
      const std::vector<HostMatrix> inputs = {random_probabilities(rows, context, spread, 3),
                                              random_probabilities(rows, context, spread, 4),
                                              HostMatrix{1, 1, {0.6f}}};
      const double steps = steps_of_sum(context) + 8;
      cases.push_back(
          {shape_name("symmetric_divergence", rows, context), inputs, steps,
           [](D d, Tensors x) -> Results { return {d.symmetric_divergence(x[0], x[1])}; }});
      cases.push_back({shape_name("symmetric_divergence_backward", rows, context), inputs, steps,
                       [](D d, Tensors x) -> Results {
                         return {d.symmetric_divergence_backward(x[0], x[1], x[2])};
                       }});
      if (context == 200) add_unaligned(cases, first);
    }
  }
  return cases;
}

std::vector<TensorCase> optimizer_cases() {
  std::vector<TensorCase> cases;
  for (const double decay : {0.0, 0.1}) {
    // The quotient has some ten roundings, its variance the square of the gradient's.
    cases.push_back(
        {fmt::format("adamw with decay {}", decay),
         {random_matrix(70, 517, 1), random_matrix(70, 517, 2), random_matrix(70, 517, 3)},
         12,
         [decay](TensorDevice& d, Tensors t) -> Results {
           const Tensor parameter = d.copy(t[0]);
           const Tensor mean = d.filled(70, 517, 0.0f);
           const Tensor variance = d.filled(70, 517, 0.0f);
           AdamW settings;
           settings.rate = 1e-2;
           settings.weight_decay = decay;
           d.adamw(parameter, t[1], mean, variance, settings);
           settings.step = 2;
           d.adamw(parameter, t[2], mean, variance, settings);
           return {parameter, mean, variance};
         }});
  }
  return cases;
}

std::vector<TensorCase> all_tensor_cases() {
  std::vector<TensorCase> all;
  for (const auto& cases :
       {product_cases(), elementwise_cases(), row_cases(), attention_cases(), loss_cases(),
        logit_cases(), token_quantizer_cases(), weight_quantizer_cases(), rounded_weight_cases(),
        affine_cases(), optimizer_cases()})
    all.insert(all.end(), cases.begin(), cases.end());
  return all;
}

}  // namespace abq::compute
