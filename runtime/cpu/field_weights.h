// Weights in the layout of kernels.h, with what the epilogues need.
#pragma once

#include "runtime/cpu/aligned_buffer.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/quantized_linear.h"

namespace abq::runtime {

struct FieldWeights {
  int code_bits = 0;
  int max_code = 0;
  int denominator = 1;  // of zero points
  int64_t n = 0;
  int64_t k = 0;
  int64_t blocks = 0;         // of four rows, the last one padded with zero codes
  int64_t units = 0;          // of 128 codes
  int groups_per_unit = 0;    // 0 = per channel
  int64_t block_entries = 0;  // scales of one block: 4, or its groups rounded up to 16

  AlignedBuffer<uint8_t> codes;
  AlignedBuffer<float> scales;   // [blocks][block_entries], 0 in the padding
  AlignedBuffer<uint8_t> zeros;  // the same
  AlignedBuffer<int64_t> sums;   // [4 blocks] sum of a row's codes
  // [4 blocks] sum_g scale_g (sum of the group's codes - size zero), what each step of an
  // activation's zero point takes from the result.
  AlignedBuffer<float> offsets;

  int64_t unit_bytes() const { return int64_t{16} * code_bits; }
  int64_t block_bytes() const { return units * kBlockRows * unit_bytes(); }
  int64_t bytes() const {
    return codes.bytes() + scales.bytes() + zeros.bytes() + sums.bytes() + offsets.bytes();
  }
  const uint8_t* block(int64_t index) const { return codes.data() + index * block_bytes(); }
  int64_t groups() const { return groups_per_unit == 0 ? 1 : k * groups_per_unit / kUnitCodes; }
  // Index into scales and zeros.
  int64_t entry(int64_t row, int64_t group) const {
    const int64_t at = row / kBlockRows * block_entries;
    if (groups_per_unit == 0) return at + row % kBlockRows;
    return at + (group / groups_per_unit * kBlockRows + row % kBlockRows) * groups_per_unit +
           group % groups_per_unit;
  }
};

// Repacks checked weights; Corrupt when a row's codes are out of range (first such row named).
Result<FieldWeights> make_field_weights(const StoredWeights& stored);

// Blocks of rows per task of a GEMV: enough bytes to outweigh the start of a task, few enough
// tasks.
int64_t blocks_per_task(int64_t blocks, int64_t block_bytes);

}  // namespace abq::runtime
