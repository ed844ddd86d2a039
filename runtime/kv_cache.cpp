#include "runtime/kv_cache.h"

#include <algorithm>

#include "support/parallel.h"
#include "support/status.h"

namespace abq::runtime {
namespace {

// Rows that one parallel task handles: fixed, so that results do not depend on the thread count.
constexpr int64_t kRowsPerTask = 64;

// Codes of `bits` each as a little-endian bit stream.
void pack_codes(const uint8_t* codes, int count, int bits, uint8_t* packed) {
  uint32_t window = 0;
  int filled = 0;
  for (int i = 0; i < count; ++i) {
    window |= static_cast<uint32_t>(codes[i]) << filled;
    filled += bits;
    while (filled >= 8) {
      *packed++ = static_cast<uint8_t>(window);
      window >>= 8;
      filled -= 8;
    }
  }
  if (filled > 0) *packed = static_cast<uint8_t>(window);
}

void unpack_codes(const uint8_t* packed, int count, int bits, uint8_t* codes) {
  if (bits == 8) {
    std::copy_n(packed, count, codes);
    return;
  }
  const uint32_t mask = (1u << bits) - 1u;
  uint32_t window = 0;
  int filled = 0;
  for (int i = 0; i < count; ++i) {
    if (filled < bits) {
      window |= static_cast<uint32_t>(*packed++) << filled;
      filled += 8;
    }
    codes[i] = static_cast<uint8_t>(window & mask);
    window >>= bits;
    filled -= bits;
  }
}

template <class Body>
void for_row_blocks(int64_t rows, const Body& body) {
  parallel_for((rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task) {
    body(task * kRowsPerTask, std::min(rows, (task + 1) * kRowsPerTask));
  });
}

}  // namespace

KvStore::KvStore(int bits, int heads, int head_dim, int64_t capacity)
    : bits_(bits), heads_(heads), head_dim_(head_dim), capacity_(capacity) {}

void KvStore::make_room(int64_t tokens) {
  ABQ_CHECK(tokens <= capacity_);
  // Twice what is there at least, so that copying stays cheap token by token.
  const auto grow = [&](auto& values, int64_t per_token) {
    const int64_t have = static_cast<int64_t>(values.size()) / per_token;
    if (have >= tokens) return;
    values.resize(static_cast<size_t>(std::clamp(2 * have, tokens, capacity_) * per_token));
  };
  if (bits_ >= 16) {
    grow(floats_, static_cast<int64_t>(heads_) * head_dim_);
  } else {
    grow(codes_, heads_ * head_bytes());
    grow(params_, heads_);
  }
}

void KvStore::write(int64_t first, MatrixView<const float> rows) {
  const int64_t columns = static_cast<int64_t>(heads_) * head_dim_;
  make_room(first + rows.rows);
  if (bits_ >= 16) {
    for (int64_t r = 0; r < rows.rows; ++r) {
      std::copy_n(rows.row(r), columns, floats_.data() + (first + r) * columns);
    }
    return;
  }
  for_row_blocks(rows.rows, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> codes(static_cast<size_t>(head_dim_));
    for (int64_t r = begin; r < end; ++r) {
      for (int h = 0; h < heads_; ++h) {
        const std::span<const float> values(rows.row(r) + static_cast<int64_t>(h) * head_dim_,
                                            static_cast<size_t>(head_dim_));
        const int64_t row = (first + r) * heads_ + h;
        const quant::AffineParams params = quant::token_params(values, bits_);
        quant::quantize_token(values, bits_, params, codes);
        params_[static_cast<size_t>(row)] = params;
        pack_codes(codes.data(), head_dim_, bits_, codes_.data() + row * head_bytes());
      }
    }
  });
}

MatrixView<const float> KvStore::read(int64_t tokens, std::vector<float>& scratch) const {
  const int64_t columns = static_cast<int64_t>(heads_) * head_dim_;
  if (bits_ >= 16) return {floats_.data(), tokens, columns};
  scratch.resize(std::max(scratch.size(), static_cast<size_t>(tokens * columns)));
  for_row_blocks(tokens * heads_, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> codes(static_cast<size_t>(head_dim_));
    for (int64_t row = begin; row < end; ++row) {
      const quant::AffineParams params = params_[static_cast<size_t>(row)];
      unpack_codes(codes_.data() + row * head_bytes(), head_dim_, bits_, codes.data());
      float* out = scratch.data() + row * head_dim_;
      for (int j = 0; j < head_dim_; ++j) {
        out[j] = params.scale * static_cast<float>(codes[static_cast<size_t>(j)] - params.zero);
      }
    }
  });
  return {scratch.data(), tokens, columns};
}

int64_t KvStore::memory_bytes() const {
  const int64_t row_bytes = bits_ >= 16
                                ? head_dim_ * static_cast<int64_t>(sizeof(float))
                                : head_bytes() + static_cast<int64_t>(sizeof(quant::AffineParams));
  return capacity_ * heads_ * row_bytes;
}

}  // namespace abq::runtime
