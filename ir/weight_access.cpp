#include "ir/weight_access.h"

#include "quant/affine.h"
#include "quant/packed_layout.h"
#include "support/parallel.h"

namespace abq::ir {

Result<const Tensor*> weight_operand(const Module& module, const Region& region, const Node& node,
                                     size_t i) {
  const Tensor& tensor = module.weight_tensor(region, node.operands[i]);
  if (tensor.data.present()) return &tensor;
  return invalid_argument(
      "tensor @{} has no data (text keeps digests only); give it values, fill or random",
      module.weight_name(region, node.operands[i]));
}

FloatWeight float_weight(const Tensor& tensor) {
  const std::span<const std::byte> bytes = tensor.data.bytes();
  FloatWeight weight;
  weight.matrix = {float_type(tensor.type.element), bytes.data(), tensor.type.shape[0],
                   tensor.type.shape[1]};
  const auto alignment = static_cast<uintptr_t>(compute::float_type_bytes(weight.matrix.type));
  if (reinterpret_cast<uintptr_t>(bytes.data()) % alignment != 0) {
    weight.aligned_copy.assign(bytes.begin(), bytes.end());
    weight.matrix.data = weight.aligned_copy.data();
  }
  return weight;
}

Result<QuantizedWeightReader> QuantizedWeightReader::create(const Module& module,
                                                            const Region& region,
                                                            const Node& bit_linear) {
  QuantizedWeightReader reader;
  reader.spec_ = weight_spec(bit_linear);
  ABQ_ASSIGN_OR_RETURN(reader.codes_, weight_operand(module, region, bit_linear, 1));
  ABQ_ASSIGN_OR_RETURN(const Tensor* scales, weight_operand(module, region, bit_linear, 2));
  ABQ_ASSIGN_OR_RETURN(reader.scales_, to_float(*scales));
  ABQ_ASSIGN_OR_RETURN(const Tensor* zeros, weight_operand(module, region, bit_linear, 3));
  reader.zeros_ = zeros->data.bytes();
  return reader;
}

namespace {

template <class ReadRow>
Status for_rows(MatrixView<float> w, const ReadRow& read_row) {
  std::vector<Status> statuses(static_cast<size_t>(w.rows));
  parallel_for(w.rows, [&](int64_t r) { statuses[static_cast<size_t>(r)] = read_row(r); });
  for (const Status& status : statuses)
    ABQ_RETURN_IF_ERROR(status);
  return {};
}

}  // namespace

Status QuantizedWeightReader::read_rows(int64_t first, MatrixView<float> w) const {
  return for_rows(w, [&](int64_t r) { return read_row(first + r, w.row_span(r)); });
}

Status QuantizedWeightReader::read_integers(int64_t first, MatrixView<float> w) const {
  return for_rows(w, [&](int64_t r) { return read_integer_row(first + r, w.row_span(r)); });
}

void QuantizedWeightReader::drop_pages() const {
  codes_->data.drop_pages();
}

Status QuantizedWeightReader::read_row(int64_t row, std::span<float> values) const {
  std::vector<uint8_t> codes(static_cast<size_t>(k()));
  ABQ_RETURN_IF_ERROR(unpack_codes(row, codes));
  const int64_t groups = spec_.groups(k());
  const auto length = static_cast<size_t>(k() / groups);
  for (int64_t g = 0; g < groups; ++g) {
    const auto parameter = static_cast<size_t>(row * groups + g);
    const quant::AffineParams params = {scales_[parameter],
                                        static_cast<uint8_t>(zeros_[parameter])};
    const size_t begin = static_cast<size_t>(g) * length;
    quant::dequantize_values(std::span(codes).subspan(begin, length), spec_, params,
                             values.subspan(begin, length));
  }
  return {};
}

Status QuantizedWeightReader::read_integer_row(int64_t row, std::span<float> values) const {
  std::vector<uint8_t> codes(static_cast<size_t>(k()));
  ABQ_RETURN_IF_ERROR(unpack_codes(row, codes));
  const int64_t groups = spec_.groups(k());
  const int64_t length = k() / groups;
  for (int64_t i = 0; i < k(); ++i) {
    const auto zero = static_cast<int>(zeros_[static_cast<size_t>(row * groups + i / length)]);
    const auto at = static_cast<size_t>(i);
    values[at] = static_cast<float>(spec_.zero_denominator() * codes[at] - zero);
  }
  return {};
}

Status QuantizedWeightReader::unpack_codes(int64_t row, std::span<uint8_t> codes) const {
  const std::span<const std::byte> bytes = codes_->data.bytes();
  if (codes_->type.element != ElementType::kU8) {
    const quant::PackedLayout layout = packed_layout(codes_->type);
    const auto row_bytes = static_cast<size_t>(layout.row_bytes());
    const auto packed = bytes.subspan(static_cast<size_t>(row) * row_bytes, row_bytes);
    return quant::unpack_row(layout, packed, codes).with_context(fmt::format("row {}", row));
  }
  const size_t begin = static_cast<size_t>(row) * codes.size();
  for (size_t i = 0; i < codes.size(); ++i) {
    codes[i] = static_cast<uint8_t>(bytes[begin + i]);
  }
  return {};
}

}  // namespace abq::ir
