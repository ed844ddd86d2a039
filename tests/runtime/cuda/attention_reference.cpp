#include "attention_reference.h"

#include <algorithm>
#include <cmath>

#include "quant/affine.h"
#include "support/float16.h"
#include "support/parallel.h"

namespace abq::runtime::cuda {
namespace {

void quantize_heads(std::vector<float>& rows, int head_dim, int bits, bool round_halves) {
  if (bits < 16) {
    const int64_t heads = static_cast<int64_t>(rows.size()) / head_dim;
    quant::fake_quantize_tokens({rows.data(), heads, head_dim}, bits);
  } else if (round_halves) {
    for (float& x : rows)
      x = f16_to_float(float_to_f16(x));
  }
}

}  // namespace

std::vector<float> inverse_frequencies(int head_dim) {
  std::vector<float> frequencies(static_cast<size_t>(head_dim / 2));
  for (size_t j = 0; j < frequencies.size(); ++j) {
    frequencies[j] = static_cast<float>(
        std::pow(10000.0, -2.0 * static_cast<double>(j) / static_cast<double>(head_dim)));
  }
  return frequencies;
}

void rotate_rows(std::vector<float>& rows, int columns, int head_dim,
                 const std::vector<float>& frequencies) {
  const auto half = static_cast<size_t>(head_dim / 2);
  const int64_t tokens = static_cast<int64_t>(rows.size()) / columns;
  parallel_for(tokens, [&](int64_t token) {
    for (size_t j = 0; j < half; ++j) {
      const double angle = static_cast<double>(token) * static_cast<double>(frequencies[j]);
      const auto cosine = static_cast<float>(std::cos(angle));
      const auto sine = static_cast<float>(std::sin(angle));
      float* const row = rows.data() + token * columns + j;
      for (int64_t at = 0; at < columns; at += head_dim) {
        const float a = row[at];
        const float b = row[at + head_dim / 2];
        row[at] = a * cosine - b * sine;
        row[at + head_dim / 2] = b * cosine + a * sine;
      }
    }
  });
}

void transform_rows(std::vector<float>& rows, int head_dim) {
  const auto size = static_cast<size_t>(head_dim);
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  for (size_t head = 0; head < rows.size(); head += size) {
    for (size_t h = 1; h < size; h *= 2) {
      for (size_t i = 0; i < size; ++i) {
        if ((i & h) != 0) continue;
        const float a = rows[head + i];
        const float b = rows[head + i + h];
        rows[head + i] = a + b;
        rows[head + i + h] = a - b;
      }
    }
    for (size_t i = 0; i < size; ++i)
      rows[head + i] *= scale;
  }
}

// The tolerance of an output: errors of its probabilities times the values they multiply.
//   prefill  probabilities round to float16 (2^-11), and unless quantized so do queries: a score's
//            error is 2^-11 sum |q k| / sqrt(D), which is a probability's relative error, once in
//            it and once in their sum
//   fused    the same; results round to float16 (which the first term has room for), so do values
//            that are codes times a scale, and such keys where queries are not codes
//   decode   float32 throughout, sums of up to D and T terms
ReferenceOutput reference_attention(const AttentionLayer& layer, const SequenceRows& rotated) {
  SequenceRows rows = rotated;
  quantize_heads(rows.q, layer.head_dim, layer.query_bits, false);
  quantize_heads(rows.k, layer.head_dim, layer.kv_bits, true);
  quantize_heads(rows.v, layer.head_dim, layer.kv_bits, true);
  const int64_t d = layer.head_dim;
  const int64_t columns = layer.heads * d;
  const int64_t kv_columns = layer.kv_heads * d;
  const int64_t tokens = static_cast<int64_t>(rows.q.size()) / columns;
  const double root = std::sqrt(static_cast<double>(d));

  ReferenceOutput result;
  for (auto* values : {&result.y, &result.tolerance, &result.fused, &result.tight})
    values->assign(rows.q.size(), 0.0);
  parallel_for(tokens, [&](int64_t token) {
    const int64_t first = layer.window > 0 ? std::max<int64_t>(0, token + 1 - layer.window) : 0;
    for (int64_t head = 0; head < layer.heads; ++head) {
      const float* const q = rows.q.data() + token * columns + head * d;
      const int64_t kv = head / (layer.heads / layer.kv_heads) * d;
      std::vector<double> scores;
      double largest = 0;  // sum |q k| / sqrt(D) of any key
      for (int64_t key = first; key <= token; ++key) {
        const float* const k = rows.k.data() + key * kv_columns + kv;
        double sum = 0;
        double magnitude = 0;
        for (int64_t i = 0; i < d; ++i) {
          const double product = static_cast<double>(q[i]) * static_cast<double>(k[i]);
          sum += product;
          magnitude += std::fabs(product);
        }
        scores.push_back(sum / root);
        largest = std::max(largest, magnitude / root);
      }
      const double top = *std::max_element(scores.begin(), scores.end());
      double total = 0;
      for (double& score : scores)
        total += score = std::exp(score - top);
      const double score_error = layer.query_bits < 16 ? 0x1p-20 : 0x1p-11;
      const double loose = 0x1p-10 + 2 * score_error * largest;
      const bool coded = layer.kv_bits < 16;
      const double key_error = coded && layer.query_bits == 16 ? 0x1p-11 : 0.0;
      const double fused = (coded ? 3 : 2) * 0x1p-11 + 2 * (score_error + key_error) * largest;
      const double tight = 0x1p-18 + 0x1p-19 * largest;
      for (int64_t i = 0; i < d; ++i) {
        double y = 0;
        double magnitude = 0;
        for (int64_t key = first; key <= token; ++key) {
          const double term =
              scores[static_cast<size_t>(key - first)] / total *
              static_cast<double>(rows.v[static_cast<size_t>(key * kv_columns + kv + i)]);
          y += term;
          magnitude += std::fabs(term);
        }
        const auto at = static_cast<size_t>(token * columns + head * d + i);
        result.y[at] = y;
        result.tolerance[at] = loose * magnitude + 1e-6;
        result.fused[at] = fused * magnitude + 1e-6;
        result.tight[at] = tight * magnitude + 1e-7;
      }
    }
  });
  return result;
}

}  // namespace abq::runtime::cuda
