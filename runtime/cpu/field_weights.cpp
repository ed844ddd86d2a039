#include "runtime/cpu/field_weights.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "support/parallel.h"

namespace abq::runtime {
namespace {

// 128 codes of one row to their fields.
void pack_unit(const uint8_t* codes, int bits, uint8_t* out) {
  if (bits == 8) {
    for (int j = 0; j < kUnitCodes; ++j)
      out[j] = static_cast<uint8_t>(codes[j] ^ 0x80);
    return;
  }
  int base = 0;
  for (int width = 4; width >= 1; width /= 2) {
    if ((bits & width) == 0) continue;
    const int bytes = 16 * width;
    const int mask = (1 << width) - 1;
    for (int j = 0; j < bytes; ++j) {
      int byte = 0;
      for (int part = 0; part < 8 / width; ++part)
        byte |= ((codes[j + part * bytes] >> base) & mask) << (part * width);
      out[j] = static_cast<uint8_t>(byte);
    }
    out += bytes;
    base += width;
  }
}

void set_shape(const StoredWeights& stored, FieldWeights& w) {
  const quant::WeightSpec& spec = stored.spec;
  w.code_bits = spec.code_bits();
  w.max_code = spec.levels() - 1;
  w.denominator = spec.zero_denominator();
  w.n = stored.layout.n;
  w.k = stored.layout.k;
  w.blocks = (w.n + kBlockRows - 1) / kBlockRows;
  w.units = (w.k + kUnitCodes - 1) / kUnitCodes;
  w.groups_per_unit = spec.group_size == 0 ? 0 : kUnitCodes / spec.group_size;
  w.block_entries =
      spec.group_size == 0 ? kBlockRows : (w.units * kBlockRows * w.groups_per_unit + 15) / 16 * 16;
  w.codes.resize(w.blocks * w.block_bytes());
  w.scales.resize(w.blocks * w.block_entries);
  w.zeros.resize(w.blocks * w.block_entries);
  w.sums.resize(w.blocks * kBlockRows);
  w.offsets.resize(w.blocks * kBlockRows);
}

// Scales, zero points, sums and the fields of one row whose codes are unpacked.
void pack_row_of_block(const StoredWeights& stored, int64_t row, const uint8_t* codes,
                       FieldWeights& w) {
  const int64_t groups = w.groups();
  const int64_t size = w.k / groups;
  int64_t row_sum = 0;
  double offset = 0;
  for (int64_t g = 0; g < groups; ++g) {
    int64_t sum = 0;
    for (int64_t j = g * size; j < (g + 1) * size; ++j)
      sum += codes[j];
    const float scale = stored.scales[static_cast<size_t>(row * groups + g)];
    const uint8_t zero = stored.zeros[static_cast<size_t>(row * groups + g)];
    w.scales[w.entry(row, g)] = scale;
    w.zeros[w.entry(row, g)] = zero;
    row_sum += sum;
    offset += static_cast<double>(scale) *
              (static_cast<double>(sum) - static_cast<double>(size * zero) / w.denominator);
  }
  w.sums[row] = row_sum;
  w.offsets[row] = static_cast<float>(offset);
  uint8_t* block = w.codes.data() + row / kBlockRows * w.block_bytes();
  for (int64_t u = 0; u < w.units; ++u) {
    pack_unit(codes + u * kUnitCodes, w.code_bits,
              block + (u * kBlockRows + row % kBlockRows) * w.unit_bytes());
  }
}

void clear_block(int64_t block, FieldWeights& w) {
  std::memset(w.codes.data() + block * w.block_bytes(), 0, static_cast<size_t>(w.block_bytes()));
  std::fill_n(w.scales.data() + block * w.block_entries, w.block_entries, 0.0f);
  std::fill_n(w.zeros.data() + block * w.block_entries, w.block_entries, uint8_t{0});
  std::fill_n(w.sums.data() + block * kBlockRows, kBlockRows, 0);
  std::fill_n(w.offsets.data() + block * kBlockRows, kBlockRows, 0.0f);
}

std::span<const std::byte> packed_row(const StoredWeights& stored, int64_t row) {
  const size_t bytes = static_cast<size_t>(stored.layout.row_bytes());
  return stored.packed.subspan(static_cast<size_t>(row) * bytes, bytes);
}

}  // namespace

Result<FieldWeights> make_field_weights(const StoredWeights& stored) {
  FieldWeights w;
  set_shape(stored, w);
  const int64_t step = blocks_per_task(w.blocks, w.block_bytes());
  std::vector<Status> statuses(static_cast<size_t>((w.blocks + step - 1) / step));
  parallel_for(static_cast<int64_t>(statuses.size()), [&](int64_t task) {
    std::vector<uint8_t> codes(static_cast<size_t>(w.units * kUnitCodes), 0);
    const std::span<uint8_t> row_codes(codes.data(), static_cast<size_t>(w.k));
    Status& status = statuses[static_cast<size_t>(task)];
    for (int64_t b = task * step; b < std::min(w.blocks, (task + 1) * step); ++b) {
      clear_block(b, w);
      for (int64_t row = b * kBlockRows; row < std::min(w.n, (b + 1) * kBlockRows); ++row) {
        status = quant::unpack_row(stored.layout, packed_row(stored, row), row_codes);
        if (!status.ok()) {
          status = status.with_context(fmt::format("row {}", row));
          return;
        }
        pack_row_of_block(stored, row, codes.data(), w);
      }
    }
  });
  for (const Status& status : statuses)
    ABQ_RETURN_IF_ERROR(status);
  return w;
}

int64_t blocks_per_task(int64_t blocks, int64_t block_bytes) {
  constexpr int64_t kTaskBytes = 96 << 10;
  constexpr int64_t kMaxTasks = 128;
  return std::max((kTaskBytes + block_bytes - 1) / std::max<int64_t>(block_bytes, 1),
                  (blocks + kMaxTasks - 1) / kMaxTasks);
}

}  // namespace abq::runtime
