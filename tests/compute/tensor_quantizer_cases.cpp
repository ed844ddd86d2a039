#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "compute_test_support.h"
#include "quantizer_model.h"
#include "tensor_cases.h"

namespace abq::compute {
namespace {

using Tensors = std::span<const Tensor>;
using Results = std::vector<Tensor>;

HostMatrix factors(int64_t rows, int64_t cols, uint64_t seed) {
  HostMatrix x = random_matrix(rows, cols, seed);
  for (float& v : x.values)
    v = 1.0f / (1.0f + std::exp(-1.0f - 0.5f * v));
  return x;
}

void move_off_boundaries(HostMatrix& w, const HostMatrix& low, const HostMatrix& high,
                         const WeightQuantizer& quantizer) {
  const int64_t length = quantizer.group_size == 0 ? w.cols : quantizer.group_size;
  for (int64_t g = 0; g < w.rows * w.cols / length; ++g) {
    const std::span<float> group(w.values.data() + g * length, static_cast<size_t>(length));
    const double clip_low = low.rows == 0 ? 1.0 : low.values[static_cast<size_t>(g)];
    const double clip_high = high.rows == 0 ? 1.0 : high.values[static_cast<size_t>(g)];
    REQUIRE(move_off_boundaries(group, clip_low, clip_high, quantizer));
  }
}

// Rows that touch the special cases of a range: only positive, only negative, all zero.
void add_special_rows(HostMatrix& w) {
  if (w.rows < 5) return;
  for (int64_t c = 0; c < w.cols; ++c) {
    float* const column = w.values.data() + c;
    column[0] = std::abs(column[0]);
    column[w.cols] = -std::abs(column[w.cols]);
    column[2 * w.cols] = 0.0f;
  }
}

}  // namespace

std::vector<TensorCase> token_quantizer_cases() {
  struct Shape {
    int64_t rows, cols, segment;
    int bits;
  };
  std::vector<TensorCase> cases;
  using D = TensorDevice&;
  std::vector<Shape> shapes = {{1, 5, 5, 4},    {9, 90, 90, 1},  {70, 517, 517, 8},
                               {33, 96, 32, 4}, {40, 105, 7, 2}, {6, 384, 384, 6}};
  for (const auto& [rows, cols] : long_row_shapes()) {
    shapes.push_back({rows, cols, cols, 4});
    shapes.push_back({rows, cols, cols, 8});
  }
  for (const Shape& s : shapes) {
    const size_t first = cases.size();
    HostMatrix x = random_matrix(s.rows, s.cols, 1, 3.0);
    add_special_rows(x);
    const WeightQuantizer quantizer{.levels = 1 << s.bits, .group_size = s.segment};
    move_off_boundaries(x, {}, {}, quantizer);
    const HostMatrix dy = random_matrix(s.rows, s.cols, 2);
    const int bits = s.bits;
    const int64_t segment = s.segment;
    const std::string name = fmt::format(" [{}, {}] of {} bits", s.rows, s.cols, bits);
    cases.push_back({"fake_quantize_tokens" + name, {x}, 4, [=](D d, Tensors t) -> Results {
                       return {d.fake_quantize_tokens(t[0], bits, segment)};
                     }});
    // The scale's gradient sums (q - z) - x / s over a segment; its terms have the error of x / s,
    // up to 2^bits units.
    const double steps = steps_of_sum(segment) + 0.25 * static_cast<double>(1 << bits);
    cases.push_back(
        {"fake_quantize_tokens_backward" + name, {x, dy}, steps, [=](D d, Tensors t) -> Results {
           return {d.fake_quantize_tokens_backward(t[0], bits, segment, t[1])};
         }});
    if (s.cols == 384) add_unaligned(cases, first);
  }
  return cases;
}

namespace {

void add_weight_quantizer_cases(std::vector<TensorCase>& cases, int64_t rows, int64_t cols,
                                const WeightQuantizer& quantizer, bool clipped) {
  using D = TensorDevice&;
  const int64_t groups = quantizer.group_size == 0 ? 1 : cols / quantizer.group_size;
  HostMatrix w = random_matrix(rows, cols, 1, 0.1);
  add_special_rows(w);
  const HostMatrix low = clipped ? factors(rows, groups, 2) : HostMatrix{};
  const HostMatrix high = clipped ? factors(rows, groups, 3) : HostMatrix{};
  move_off_boundaries(w, low, high, quantizer);
  const std::string name =
      fmt::format(" [{}, {}] {} of {}{}", rows, cols, static_cast<int>(quantizer.kind),
                  quantizer.levels, clipped ? " clipped" : "");
  // A binary scale is a mean over the group.
  const int64_t length = cols / groups;
  const double forward =
      quantizer.kind == WeightQuantizer::Kind::kBinary ? steps_of_sum(length) : 4;
  cases.push_back(
      {"fake_quantize_weight" + name, {w, low, high}, forward, [=](D d, Tensors t) -> Results {
         return {d.fake_quantize_weight(t[0], t[1], t[2], quantizer)};
       }});
  cases.push_back({"fake_quantize_weight_backward" + name,
                   {w, low, high, random_matrix(rows, cols, 4)},
                   steps_of_sum(length) + 0.25 * quantizer.levels,
                   [=](D d, Tensors t) -> Results {
                     const WeightGradient g =
                         d.fake_quantize_weight_backward(t[0], t[1], t[2], quantizer, t[3]);
                     CHECK(g.clip_low.empty() == t[1].empty());
                     CHECK(g.clip_high.empty() == t[1].empty());
                     return {g.w, g.clip_low, g.clip_high};
                   }});
}

}  // namespace

std::vector<TensorCase> weight_quantizer_cases() {
  using Kind = WeightQuantizer::Kind;
  std::vector<TensorCase> cases;
  const WeightQuantizer quantizers[] = {
      {Kind::kAsymmetric, 16, 15, 8, 0}, {Kind::kAsymmetric, 4, 3, 2, 32},
      {Kind::kAsymmetric, 5, 4, 2, 0},   {Kind::kAsymmetric, 256, 255, 128, 64},
      {Kind::kSymmetric, 16, 15, 8, 0},  {Kind::kSymmetric, 5, 4, 2, 32},
      {Kind::kBinary, 2, 1, 0, 0},       {Kind::kBinary, 2, 1, 0, 64}};
  for (const WeightQuantizer& quantizer : quantizers) {
    const int64_t cols = quantizer.group_size == 0 ? 251 : 192;
    for (const bool clipped : {false, true}) {
      // Half an odd number of steps: the unclipped extreme itself lies on a rounding boundary.
      if (!clipped && quantizer.kind == Kind::kSymmetric && quantizer.steps % 2 == 1) continue;
      const size_t first = cases.size();
      add_weight_quantizer_cases(cases, 70, cols, quantizer, clipped);
      if (cols % 4 == 0) add_unaligned(cases, first);
    }
  }
  for (const auto& [rows, cols] : long_row_shapes()) {
    for (const WeightQuantizer& quantizer : {WeightQuantizer{Kind::kAsymmetric, 16, 15, 8, 0},
                                             WeightQuantizer{Kind::kSymmetric, 17, 16, 8, 0},
                                             WeightQuantizer{Kind::kBinary, 2, 1, 0, 0}}) {
      for (const bool clipped : {false, true})
        add_weight_quantizer_cases(cases, rows, cols, quantizer, clipped);
    }
  }
  return cases;
}

namespace {

void add_rounded_weight_cases(std::vector<TensorCase>& cases, int64_t rows, int64_t cols,
                              const WeightQuantizer& quantizer) {
  using D = TensorDevice&;
  const bool binary = quantizer.kind == WeightQuantizer::Kind::kBinary;
  const int64_t groups = quantizer.group_size == 0 ? 1 : cols / quantizer.group_size;
  // Codes beyond both ends. Every fourth offset is a half or a whole number: float32 and float64
  // round the same float32 offsets to the same numbers, so that no place needs to be avoided.
  HostMatrix offsets = random_matrix(rows, cols, 1, binary ? 1.0 : 0.4 * quantizer.levels);
  for (size_t i = 0; i < offsets.values.size(); i += 4)
    offsets.values[i] = std::round(2.0f * offsets.values[i]) / 2.0f;
  // Scales and zeros as columns of their own shape: they are known by size.
  HostMatrix scales = factors(rows * groups, 1, 2);
  HostMatrix zeros = binary ? HostMatrix{} : factors(1, rows * groups, 3);
  for (float& zero : zeros.values)
    zero = std::round(zero * static_cast<float>(quantizer.levels - 1));
  const std::string name = fmt::format(" [{}, {}] {} of {}", rows, cols,
                                       static_cast<int>(quantizer.kind), quantizer.levels);
  cases.push_back(
      {"rounded_weight" + name, {offsets, scales, zeros}, 0, [=](D d, Tensors t) -> Results {
         return {d.rounded_weight(t[0], t[1], t[2], quantizer)};
       }});
  for (const bool offsets_wanted : {false, true}) {
    cases.push_back({"rounded_weight_backward" + name + (offsets_wanted ? "" : ", scales alone"),
                     {offsets, scales, zeros, random_matrix(rows, cols, 4)},
                     steps_of_sum(cols / groups),
                     [=](D d, Tensors t) -> Results {
                       const RoundedWeightGradient g = d.rounded_weight_backward(
                           t[0], t[1], t[2], quantizer, t[3], offsets_wanted);
                       CHECK(g.offsets.empty() == !offsets_wanted);
                       return {g.offsets, g.scales};
                     }});
  }
}

}  // namespace

std::vector<TensorCase> rounded_weight_cases() {
  using Kind = WeightQuantizer::Kind;
  std::vector<TensorCase> cases;
  for (const WeightQuantizer& quantizer :
       {WeightQuantizer{.levels = 16}, WeightQuantizer{.levels = 5, .group_size = 32},
        WeightQuantizer{.levels = 256, .group_size = 64},
        WeightQuantizer{.kind = Kind::kSymmetric, .levels = 4, .group_size = 32},
        WeightQuantizer{.kind = Kind::kBinary},
        WeightQuantizer{.kind = Kind::kBinary, .group_size = 64}}) {
    const size_t first = cases.size();
    add_rounded_weight_cases(cases, 70, quantizer.group_size == 0 ? 251 : 192, quantizer);
    if (quantizer.group_size != 0) add_unaligned(cases, first);
  }
  for (const auto& [rows, cols] : long_row_shapes()) {
    add_rounded_weight_cases(cases, rows, cols, {.levels = 16});
    add_rounded_weight_cases(cases, rows, cols, {.kind = Kind::kBinary});
  }
  return cases;
}

std::vector<TensorCase> affine_cases() {
  std::vector<TensorCase> cases;
  using D = TensorDevice&;
  std::vector<std::pair<int64_t, int64_t>> shapes = long_row_shapes();
  shapes.insert(shapes.begin(), {{3, 5}, {130, 301}, {130, 300}});
  for (const auto& [rows, cols] : shapes) {
    const size_t first = cases.size();
    for (int present = 0; present < 8; ++present) {
      const auto vector = [&](int bit, int64_t size, uint64_t seed) {
        if ((present & bit) == 0) return HostMatrix{};
        // Columns are vectors as well, and so are their gradients.
        return present == 6 ? random_matrix(size, 1, seed) : random_matrix(1, size, seed);
      };
      const std::vector<HostMatrix> inputs = {
          random_matrix(rows, cols, 1), vector(1, rows, 2), vector(2, cols, 3),
          vector(4, rows, 4),           vector(4, cols, 5), random_matrix(rows, cols, 6)};
      const std::string name = fmt::format(" [{}, {}] with {}", rows, cols, present);
      cases.push_back({"affine_weight" + name, inputs, 4, [](D d, Tensors t) -> Results {
                         return {d.affine_weight(t[0], t[1], t[2], t[3], t[4])};
                       }});
      cases.push_back({"affine_weight_backward" + name, inputs, steps_of_sum(std::max(rows, cols)),
                       [present](D d, Tensors t) -> Results {
                         const bool w_wanted = present != 3;
                         const AffineGradient g =
                             d.affine_weight_backward(t[0], t[1], t[2], t[3], t[4], t[5], w_wanted);
                         CHECK(g.w.empty() == !w_wanted);
                         return {g.w, g.row_scale, g.column_scale, g.a, g.b};
                       }});
    }
    if (cols == 300) add_unaligned(cases, first);
  }
  return cases;
}

}  // namespace abq::compute
