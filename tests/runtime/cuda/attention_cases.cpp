#include "attention_cases.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "attention_case_arrays.h"
#include "attention_reference.h"
#include "quant/affine.h"
#include "runtime/cuda/attention/cache_layout.h"
#include "runtime/cuda/linear/tile_layout.h"
#include "support/float16.h"
#include "support/random.h"

namespace abq::runtime::cuda {
namespace {

struct Sequence {
  SequenceRows rows;  // of all tokens, before rotation
  SequenceRows rotated;
  ReferenceOutput reference;
  int64_t prompt = 0;
  int64_t capacity = 0;
};

class AttentionRun {
 public:
  explicit AttentionRun(const AttentionCase& test)
      : test_(test),
        frequencies_(inverse_frequencies(test.head_dim)),
        device_frequencies_(frequencies_) {
    layer_.heads = test.heads;
    layer_.kv_heads = test.kv_heads;
    layer_.head_dim = test.head_dim;
    layer_.window = test.window;
    layer_.query_bits = test.query_bits;
    layer_.kv_bits = test.kv_bits;
    if (test.rotated) {
      layer_.query_frequencies = device_frequencies_.data();
      layer_.key_frequencies = device_frequencies_.data();
    }
    if (test.transformed) {
      layer_.query_transform =
          static_cast<float>(1.0 / std::sqrt(static_cast<double>(test.head_dim)));
      layer_.key_transform = layer_.query_transform;
    }
    columns_ = static_cast<int64_t>(test.heads) * test.head_dim;
    kv_columns_ = static_cast<int64_t>(test.kv_heads) * test.head_dim;
    // A layer lies ahead of this one in the cache; a piece of another behind it.
    token_bytes_ = cache_token_bytes(layer_);
    make_sequences();
  }

  void run() {
    std::vector<std::vector<std::vector<float>>> outputs(static_cast<size_t>(test_.runs));
    for (auto& output : outputs) {
      make_caches();
      output = test_.decode_only ? fill_caches() : prefill();
      decode(output);
      check_caches();
    }
    check_outputs(outputs[0]);
    if (test_.runs < 2) return;
    Comparison same;
    for (size_t s = 0; s < sequences_.size(); ++s) {
      for (size_t i = 0; i < outputs[0][s].size(); ++i)
        same.count(bits_of(outputs[0][s][i]) == bits_of(outputs[1][s][i]),
                   [&] { return fmt::format("at {} of sequence {}", i, s); });
    }
    same.finish("bits of a second run");
  }

 private:
  void make_sequences() {
    Random random(test_.seed);
    for (const std::vector<int>& prompt : test_.prompts) {
      Sequence s;
      for (const int chunk : prompt)
        s.prompt += chunk;
      const int64_t tokens = s.prompt + test_.decoded;
      s.rows = {random_rows(random, tokens, columns_), random_rows(random, tokens, kv_columns_),
                random_rows(random, tokens, kv_columns_)};
      s.rotated = s.rows;
      if (test_.rotated) {
        rotate_rows(s.rotated.q, static_cast<int>(columns_), test_.head_dim, frequencies_);
        rotate_rows(s.rotated.k, static_cast<int>(kv_columns_), test_.head_dim, frequencies_);
      }
      if (test_.transformed) {
        transform_rows(s.rotated.q, test_.head_dim);
        transform_rows(s.rotated.k, test_.head_dim);
      }
      s.reference = reference_attention(layer_, s.rotated);
      s.capacity = (tokens + kCacheGranularity - 1) / kCacheGranularity * kCacheGranularity +
                   kCacheGranularity * static_cast<int64_t>(sequences_.size());
      sequences_.push_back(std::move(s));
    }
  }

  void make_caches() {
    caches_.clear();
    for (const Sequence& s : sequences_)
      caches_.emplace_back(s.capacity * 3 * token_bytes_);
  }
  std::vector<SequenceState> states(const std::vector<int64_t>& positions) const {
    std::vector<SequenceState> result(sequences_.size());
    for (size_t s = 0; s < result.size(); ++s)
      result[s] = {caches_[s].data(), sequences_[s].capacity, positions[s]};
    return result;
  }

  // Rows of q, k and v side by side, as a fused projection leaves them.
  int64_t fused_stride() const { return columns_ + 2 * kv_columns_ + kGap; }
  void add_fused(const Sequence& s, int64_t token, std::vector<float>& fused) const {
    const auto add = [&](const std::vector<float>& rows, int64_t columns) {
      const auto begin = rows.begin() + token * columns;
      fused.insert(fused.end(), begin, begin + columns);
    };
    add(s.rows.q, columns_);
    add(s.rows.k, kv_columns_);
    add(s.rows.v, kv_columns_);
    fused.insert(fused.end(), kGap, NAN);
  }
  AttentionInput input_of(const KernelArray<float>& fused) const {
    const float* const data = fused.data();
    return {data,           data + columns_, data + columns_ + kv_columns_,
            fused_stride(), fused_stride(),  fused_stride()};
  }

  // Rows of y without their gaps, which must be untouched.
  static std::vector<float> take_rows(const KernelArray<float>& y, int64_t columns) {
    const std::vector<float> values = y.values();
    const int64_t stride = columns + kGap;
    std::vector<float> rows;
    Comparison gaps;
    for (size_t at = 0; at < values.size(); at += static_cast<size_t>(stride)) {
      rows.insert(rows.end(), values.begin() + static_cast<int64_t>(at),
                  values.begin() + static_cast<int64_t>(at) + columns);
      for (int64_t i = columns; i < stride; ++i)
        gaps.count(bits_of(values[at + static_cast<size_t>(i)]) == kPoison,
                   [&] { return fmt::format("at {}", at + static_cast<size_t>(i)); });
    }
    gaps.finish("floats between rows of y");
    return rows;
  }

  int64_t workspace_bytes(int64_t m, int64_t tokens) const {
    if (test_.fused == nullptr) return prefill_workspace_bytes(layer_, m);
    REQUIRE(test_.fused->prepare(fused_shape(layer_, m)).ok());
    return fused_workspace_bytes(*test_.fused, layer_, m, tokens);
  }

  std::vector<std::vector<float>> prefill() {
    std::vector<std::vector<float>> outputs;
    for (size_t s = 0; s < sequences_.size(); ++s) {
      std::vector<float> output;
      int64_t position = 0;
      for (const int m : test_.prompts[s]) {
        std::vector<float> rows;
        for (int64_t i = 0; i < m; ++i)
          add_fused(sequences_[s], position + i, rows);
        const KernelArray<float> fused{std::span<const float>(rows)};
        const KernelArray<float> y(m * (columns_ + kGap));
        const KernelArray<std::byte> workspace(workspace_bytes(m, position + m));
        std::vector<int64_t> positions(sequences_.size());
        positions[s] = position;
        const std::vector<SequenceState> all = states(positions);
        const KernelArray<SequenceState> state(std::span<const SequenceState>(&all[s], 1));
        const Workspace memory = {workspace.data(), workspace.bytes()};
        const Status status =
            test_.fused != nullptr
                ? fused_prefill_attention(*test_.fused, layer_, token_bytes_, input_of(fused),
                                          state.data(), m, position + m, y.data(), columns_ + kGap,
                                          memory, nullptr)
                : prefill_attention(layer_, token_bytes_, input_of(fused), state.data(), m,
                                    y.data(), columns_ + kGap, memory, nullptr);
        const std::string words = status.to_string();
        INFO(words);
        REQUIRE(status.ok());
        const std::vector<float> part = take_rows(y, columns_);
        output.insert(output.end(), part.begin(), part.end());
        position += m;
      }
      outputs.push_back(std::move(output));
    }
    return outputs;
  }

  // Prompts in the caches without prefill_attention(); outputs of the prompts are the reference's.
  std::vector<std::vector<float>> fill_caches() {
    std::vector<std::vector<float>> outputs;
    for (size_t s = 0; s < sequences_.size(); ++s) {
      const Sequence& sequence = sequences_[s];
      std::vector<std::byte> bytes = caches_[s].values();
      std::byte* const layer = bytes.data() + sequence.capacity * token_bytes_;
      fill_rows(layer, sequence, false);
      fill_rows(layer, sequence, true);
      copy_to_kernels(caches_[s].data(), bytes.data(), static_cast<int64_t>(bytes.size()));
      const auto begin = sequence.reference.y.begin();
      outputs.emplace_back(begin, begin + sequence.prompt * columns_);
    }
    return outputs;
  }
  void fill_rows(std::byte* layer, const Sequence& sequence, bool values) const {
    const std::vector<float>& rows = values ? sequence.rotated.v : sequence.rotated.k;
    const CacheLayout layout =
        cache_layout(test_.kv_heads, test_.head_dim, test_.kv_bits, sequence.capacity);
    const int stored = stored_bits(test_.kv_bits);
    const int64_t d = test_.head_dim;
    const int64_t count = sequence.prompt * test_.kv_heads;
    quant::QuantizedTokens codes;
    if (stored < 16) codes = quant::quantize_tokens({rows.data(), count, d}, test_.kv_bits);
    for (int64_t row = 0; row < count; ++row) {
      const int64_t token = row / test_.kv_heads;
      const int head = static_cast<int>(row % test_.kv_heads);
      std::byte* const at = layer + layout.rows_at(values, head) + token * layout.row_bytes;
      std::fill_n(at, layout.row_bytes, std::byte{0});
      for (int64_t i = 0; i < d; ++i) {
        const auto index = static_cast<size_t>(row * d + i);
        if (stored == 16) {
          const uint16_t half = float_to_f16(rows[index]);
          std::memcpy(at + 2 * i, &half, sizeof(half));
        } else {
          at[i * stored / 8] |= static_cast<std::byte>(codes.codes[index] << (i * stored % 8));
        }
      }
      if (stored == 16) continue;
      const auto index = static_cast<size_t>(row);
      const float params[2] = {codes.scales[index], static_cast<float>(codes.zeros[index])};
      std::memcpy(layer + layout.params_at(values, head) + token * 8, params, sizeof(params));
    }
  }

  void decode(std::vector<std::vector<float>>& outputs) {
    const int m = static_cast<int>(sequences_.size());
    for (int step = 0; step < test_.decoded; ++step) {
      std::vector<float> rows;
      std::vector<int64_t> positions;
      int64_t most = 0;
      for (const Sequence& s : sequences_) {
        positions.push_back(s.prompt + step);
        most = std::max(most, positions.back() + 1);
        add_fused(s, positions.back(), rows);
      }
      most += step % 2 * 200;  // the bound need not be tight
      const KernelArray<float> fused{std::span<const float>(rows)};
      const KernelArray<SequenceState> state{std::span<const SequenceState>(states(positions))};
      const KernelArray<float> y(m * (columns_ + kGap));
      const KernelArray<std::byte> workspace(decode_workspace_bytes(layer_, m, most));
      const int tiles = tiles_of(columns_, kTileDepth);
      const int64_t padded = tiles_of(m, 8) * 8;
      const KernelArray<uint32_t> planes(int64_t{tiles_of(m, kTokenPadding)} * kTokenPadding *
                                         tiles * test_.token_bits * 8);
      const KernelArray<uint8_t> codes(padded * tiles * kTileDepth);
      const KernelArray<float> scales(m);
      const KernelArray<int32_t> zeros(m);
      const KernelArray<int32_t> sums(m);
      const KernelArray<int32_t> group_sums(static_cast<int64_t>(m) * tiles * 8);
      TokenTiles tokens{m, static_cast<int>(columns_), test_.token_bits};
      tokens.planes = planes.data();
      tokens.codes = codes.data();
      tokens.scales = scales.data();
      tokens.zeros = zeros.data();
      tokens.sums = sums.data();
      tokens.group_sums = group_sums.data();
      const Status status = decode_attention(
          layer_, token_bytes_, input_of(fused), state.data(), m, most, y.data(), columns_ + kGap,
          step % 3 == 2 ? nullptr : &tokens, {workspace.data(), workspace.bytes()}, nullptr);
      const std::string words = status.to_string();
      INFO(words);
      REQUIRE(status.ok());
      const std::vector<float> result = take_rows(y, columns_);
      if (step % 3 != 2)
        check_tokens(result, m, planes.values(), codes.values(), scales.values(), zeros.values(),
                     sums.values(), group_sums.values());
      for (size_t s = 0; s < outputs.size(); ++s) {
        const auto begin = result.begin() + static_cast<int64_t>(s) * columns_;
        outputs[s].insert(outputs[s].end(), begin, begin + columns_);
      }
    }
  }

  void check_tokens(const std::vector<float>& y, int m, const std::vector<uint32_t>& planes,
                    const std::vector<uint8_t>& codes, const std::vector<float>& scales,
                    const std::vector<int32_t>& zeros, const std::vector<int32_t>& sums,
                    const std::vector<int32_t>& group_sums) const {
    const int bits = test_.token_bits;
    const quant::QuantizedTokens expected = quant::quantize_tokens({y.data(), m, columns_}, bits);
    const int64_t tiles = tiles_of(columns_, kTileDepth);
    Comparison params, plane_bits, octets, groups;
    for (int64_t token = 0; token < m; ++token) {
      const auto row = static_cast<size_t>(token);
      int64_t sum = 0;
      for (int64_t group = 0; group < 8 * tiles; ++group) {
        int32_t group_sum = 0;
        for (int64_t i = 0; i < 32; ++i) {
          const int64_t input = 32 * group + i;
          if (input >= columns_) continue;
          const int code = expected.codes[static_cast<size_t>(token * columns_ + input)];
          group_sum += code;
          const int64_t octet =
              (token / 8 * 16 * tiles + input / 16) * 128 + token % 8 * 16 + input % 16;
          octets.count(codes[static_cast<size_t>(octet)] == code, [&] {
            return fmt::format("token {} input {}: expected {}, got {}", token, input, code,
                               codes[static_cast<size_t>(octet)]);
          });
          // tile_input() taken apart.
          const int64_t s = i / 32 + input % 256 / 32, h = i / 16, t = i % 16 / 4, b = i % 4;
          for (int j = 0; j < bits; ++j) {
            const int64_t word =
                2 * plane_pair(m, token, static_cast<int>(tiles), static_cast<int>(input / 256),
                               bits, j, static_cast<int>(t)) +
                h;
            plane_bits.count(
                (planes[static_cast<size_t>(word)] >> (8 * b + s) & 1) ==
                    (static_cast<uint32_t>(code) >> j & 1),
                [&] { return fmt::format("token {} input {} plane {}", token, input, j); });
          }
        }
        sum += group_sum;
        const auto at = static_cast<size_t>(token * 8 * tiles + group);
        groups.count(group_sums[at] == group_sum, [&] {
          return fmt::format("token {} group {}: expected {}, got {}", token, group, group_sum,
                             group_sums[at]);
        });
      }
      params.count(bits_of(scales[row]) == bits_of(expected.scales[row]) &&
                       zeros[row] == expected.zeros[row] && sums[row] == sum,
                   [&] {
                     return fmt::format("token {}: expected {} {} {}, got {} {} {}", token,
                                        expected.scales[row], expected.zeros[row], sum, scales[row],
                                        zeros[row], sums[row]);
                   });
    }
    params.finish("scales, zero points and sums of tokens");
    octets.finish("codes of tokens");
    plane_bits.finish("planes of tokens");
    groups.finish("group sums of tokens");
  }

  // The cache holds the codes of quantize_tokens, and the memory around the layer is untouched.
  void check_caches() const {
    for (size_t s = 0; s < sequences_.size(); ++s) {
      const Sequence& sequence = sequences_[s];
      const std::vector<std::byte> bytes = caches_[s].values();
      const int64_t begin = sequence.capacity * token_bytes_;
      Comparison around;
      for (int64_t i = 0; i < static_cast<int64_t>(bytes.size()); ++i) {
        if (i < begin || i >= 2 * begin)
          around.count(bytes[static_cast<size_t>(i)] == std::byte{0xff},
                       [&] { return fmt::format("byte {}", i); });
      }
      around.finish("memory beside the layer's cache");
      check_rows(bytes.data() + begin, sequence, false);
      check_rows(bytes.data() + begin, sequence, true);
    }
  }
  void check_rows(const std::byte* layer, const Sequence& sequence, bool values) const {
    const std::vector<float>& rows = values ? sequence.rotated.v : sequence.rotated.k;
    const CacheLayout layout =
        cache_layout(test_.kv_heads, test_.head_dim, test_.kv_bits, sequence.capacity);
    const int stored = stored_bits(test_.kv_bits);
    const int64_t d = test_.head_dim;
    const int64_t count = static_cast<int64_t>(rows.size()) / d;
    quant::QuantizedTokens expected;
    if (stored < 16) expected = quant::quantize_tokens({rows.data(), count, d}, test_.kv_bits);
    Comparison comparison;
    for (int64_t row = 0; row < count; ++row) {
      const int64_t token = row / test_.kv_heads;
      const int head = static_cast<int>(row % test_.kv_heads);
      const std::byte* const at = layer + layout.rows_at(values, head) + token * layout.row_bytes;
      for (int64_t i = 0; i < d; ++i) {
        uint32_t code = 0;
        if (stored == 16) {
          uint16_t half;
          std::memcpy(&half, at + 2 * i, sizeof(half));
          code = half;
        } else {
          code = std::to_integer<uint32_t>(at[i * stored / 8]) >> (i * stored % 8) &
                 ((1u << stored) - 1);
        }
        const auto index = static_cast<size_t>(row * d + i);
        const uint32_t want = stored == 16 ? float_to_f16(rows[index]) : expected.codes[index];
        comparison.count(code == want, [&] {
          return fmt::format("token {} head {} element {}: expected {}, got {}", token, head, i,
                             want, code);
        });
      }
      if (stored == 16) continue;
      float params[2];
      std::memcpy(params, layer + layout.params_at(values, head) + token * 8, sizeof(params));
      const auto index = static_cast<size_t>(row);
      comparison.count(bits_of(params[0]) == bits_of(expected.scales[index]) &&
                           params[1] == static_cast<float>(expected.zeros[index]),
                       [&] {
                         return fmt::format("token {} head {}: expected {} {}, got {} {}", token,
                                            head, expected.scales[index], expected.zeros[index],
                                            params[0], params[1]);
                       });
    }
    comparison.finish(values ? "cached values" : "cached keys");
  }

  void check_outputs(const std::vector<std::vector<float>>& outputs) const {
    Comparison prefilled, decoded;
    for (size_t s = 0; s < sequences_.size(); ++s) {
      const Sequence& sequence = sequences_[s];
      REQUIRE(outputs[s].size() == sequence.reference.y.size());
      const int64_t prompt = sequence.prompt * columns_;
      for (size_t i = 0; i < outputs[s].size(); ++i) {
        const bool in_prompt = static_cast<int64_t>(i) < prompt;
        const double expected = sequence.reference.y[i];
        const double tolerance = !in_prompt               ? sequence.reference.tight[i]
                                 : test_.fused != nullptr ? sequence.reference.fused[i]
                                                          : sequence.reference.tolerance[i];
        const double got = static_cast<double>(outputs[s][i]);
        const bool close = std::fabs(got - expected) <= tolerance;  // false for NaN
        const auto column = static_cast<int64_t>(i) % columns_;
        (in_prompt ? prefilled : decoded).count(close, [&] {
          return fmt::format(
              "sequence {} token {} head {} element {}: expected "
              "{} +- {}, got {}",
              s, static_cast<int64_t>(i) / columns_, column / test_.head_dim,
              column % test_.head_dim, expected, tolerance, got);
        });
      }
    }
    prefilled.finish("outputs of prefill");
    if (test_.decoded > 0) decoded.finish("outputs of decode");
  }

  AttentionCase test_;
  std::vector<float> frequencies_;
  KernelArray<float> device_frequencies_;
  AttentionLayer layer_;
  int64_t columns_ = 0;
  int64_t kv_columns_ = 0;
  int64_t token_bytes_ = 0;
  std::vector<Sequence> sequences_;
  std::vector<KernelArray<std::byte>> caches_;
};

}  // namespace

std::string AttentionCase::name() const {
  std::string words = fmt::format("heads {}/{} of {}{}, window {}, q{} kv{} a{}{}, prompts", heads,
                                  kv_heads, head_dim, transformed ? " transformed" : "", window,
                                  query_bits, kv_bits, token_bits, fused ? " fused" : "");
  for (const std::vector<int>& prompt : prompts) {
    words += " (";
    for (const int chunk : prompt)
      words += fmt::format(" {}", chunk);
    words += " )";
  }
  return words + fmt::format(", then {} decoded", decoded);
}

void check_attention(const AttentionCase& test) {
  const std::string name = test.name();
  INFO(name);
  AttentionRun(test).run();
}

}  // namespace abq::runtime::cuda
