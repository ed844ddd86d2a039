#include "ir/types.h"

#include <algorithm>
#include <cstring>

#include "support/checksum.h"
#include "support/float16.h"

namespace abq::ir {

std::string_view element_type_name(ElementType type) {
  switch (type) {
    case ElementType::kF32:
      return "f32";
    case ElementType::kF16:
      return "f16";
    case ElementType::kBF16:
      return "bf16";
    case ElementType::kI32:
      return "i32";
    case ElementType::kU8:
      return "u8";
    case ElementType::kTokens:
      return "tokens";
    case ElementType::kPlanes:
      return "planes";
    case ElementType::kBase5:
      return "base5";
    case ElementType::kBase3:
      return "base3";
  }
  return "?";
}

std::optional<ElementType> element_type_from_name(std::string_view name) {
  for (const ElementType type : {ElementType::kF32, ElementType::kF16, ElementType::kBF16,
                                 ElementType::kI32, ElementType::kU8, ElementType::kTokens,
                                 ElementType::kPlanes, ElementType::kBase5, ElementType::kBase3}) {
    if (element_type_name(type) == name) return type;
  }
  return std::nullopt;
}

std::string to_string(const Type& type) {
  std::string text(element_type_name(type.element));
  if (type.code_bits != 0) text += fmt::format("<{}>", type.code_bits);
  text += '[';
  for (size_t i = 0; i < type.shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += type.shape[i] == kTokenDim ? "T" : fmt::format("{}", type.shape[i]);
  }
  return text + ']';
}

int64_t element_count(const Type& type) {
  int64_t count = 1;
  for (const int64_t dim : type.shape) {
    ABQ_CHECK(dim != kTokenDim);
    count *= dim;
  }
  return count;
}

int64_t byte_size(const Type& type) {
  switch (type.element) {
    case ElementType::kF32:
    case ElementType::kI32:
      return 4 * element_count(type);
    case ElementType::kF16:
    case ElementType::kBF16:
      return 2 * element_count(type);
    case ElementType::kU8:
      return element_count(type);
    case ElementType::kPlanes:
    case ElementType::kBase5:
    case ElementType::kBase3:
      return packed_layout(type).total_bytes();
    case ElementType::kTokens:
      break;
  }
  ABQ_CHECK(!"quantized activations are never tensors");
}

bool is_float(ElementType element) {
  return element == ElementType::kF32 || element == ElementType::kF16 ||
         element == ElementType::kBF16;
}

bool is_packed(ElementType element) {
  return element == ElementType::kPlanes || element == ElementType::kBase5 ||
         element == ElementType::kBase3;
}

compute::FloatType float_type(ElementType element) {
  ABQ_CHECK(is_float(element));
  if (element == ElementType::kF32) return compute::FloatType::kF32;
  return element == ElementType::kF16 ? compute::FloatType::kF16 : compute::FloatType::kBF16;
}

quant::PackedLayout packed_layout(const Type& type) {
  ABQ_CHECK(is_packed(type.element) && type.shape.size() == 2);
  quant::PackedLayout layout;
  layout.encoding = type.element == ElementType::kBase5   ? quant::Encoding::kBase5
                    : type.element == ElementType::kBase3 ? quant::Encoding::kBase3
                                                          : quant::Encoding::kPlanes;
  layout.code_bits = type.code_bits;
  layout.n = type.shape[0];
  layout.k = type.shape[1];
  return layout;
}

Type activation_type(int64_t cols) {
  return {ElementType::kF32, 0, {kTokenDim, cols}};
}

TensorData TensorData::file_range(std::shared_ptr<const MappedFile> file, size_t offset,
                                  size_t size) {
  ABQ_CHECK(offset <= file->bytes().size() && size <= file->bytes().size() - offset);
  TensorData data;
  data.file_ = std::move(file);
  data.offset_ = offset;
  data.size_ = size;
  return data;
}

TensorData TensorData::owned(std::vector<std::byte> bytes) {
  TensorData data;
  data.size_ = bytes.size();
  data.bytes_ = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
  return data;
}

std::span<const std::byte> TensorData::bytes() const {
  if (file_ != nullptr) return file_->bytes().subspan(offset_, size_);
  if (bytes_ != nullptr) return *bytes_;
  return {};
}

void TensorData::drop_pages() const {
  if (file_ != nullptr) file_->drop_pages(offset_, size_);
}

std::string tensor_digest(const Tensor& tensor) {
  if (!tensor.data.present()) return tensor.digest;
  std::string digest = digest128(tensor.data.bytes());
  tensor.data.drop_pages();
  return digest;
}

Result<std::vector<float>> to_float(const Tensor& tensor) {
  if (!is_float(tensor.type.element)) {
    return invalid_argument("element type {} is no float type; expected f32, f16 or bf16",
                            element_type_name(tensor.type.element));
  }
  if (!tensor.data.present()) return invalid_argument("the tensor has no data");
  const std::span<const std::byte> bytes = tensor.data.bytes();
  ABQ_CHECK(static_cast<int64_t>(bytes.size()) == byte_size(tensor.type));
  const compute::FloatType type = float_type(tensor.type.element);
  std::vector<float> values(static_cast<size_t>(element_count(tensor.type)));
  if (type == compute::FloatType::kF32) {
    if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  // A file range may begin at any byte.
  if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(uint16_t) == 0) {
    compute::to_float(type, bytes.data(), static_cast<int64_t>(values.size()), values.data());
  } else {
    const std::vector<std::byte> aligned(bytes.begin(), bytes.end());
    compute::to_float(type, aligned.data(), static_cast<int64_t>(values.size()), values.data());
  }
  return values;
}

Tensor make_tensor(ElementType element, int code_bits, std::vector<int64_t> shape,
                   TensorData data) {
  Tensor tensor;
  tensor.type.element = element;
  tensor.type.code_bits = code_bits;
  tensor.type.shape = std::move(shape);
  tensor.data = std::move(data);
  return tensor;
}

Tensor make_f32_tensor(std::vector<int64_t> shape, const std::vector<float>& values) {
  Tensor tensor =
      make_tensor(ElementType::kF32, 0, std::move(shape), TensorData::from_vector(values));
  ABQ_CHECK(element_count(tensor.type) == static_cast<int64_t>(values.size()));
  return tensor;
}

Tensor make_f16_tensor(std::vector<int64_t> shape, const std::vector<float>& values) {
  std::vector<uint16_t> halves(values.size());
  std::transform(values.begin(), values.end(), halves.begin(), float_to_f16);
  Tensor tensor =
      make_tensor(ElementType::kF16, 0, std::move(shape), TensorData::from_vector(halves));
  ABQ_CHECK(element_count(tensor.type) == static_cast<int64_t>(values.size()));
  return tensor;
}

}  // namespace abq::ir
