// Types and tensor data of the IR.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "compute/device.h"
#include "quant/packed_layout.h"
#include "support/mapped_file.h"
#include "support/matrix_view.h"
#include "support/status.h"

namespace abq::ir {

enum class ElementType {
  kF32,
  kF16,
  kBF16,
  kI32,     // token ids
  kU8,      // weight codes and zero points, one byte each
  kTokens,  // quantized activations: codes with per-token scale and zero point
  kPlanes,  // packed weight codes, see quant/packed_layout.h; `code_bits` planes
  kBase5,
  kBase3,
};
std::string_view element_type_name(ElementType type);  // "f32", "planes", ...
std::optional<ElementType> element_type_from_name(std::string_view name);

// A dimension whose size is the number of tokens of the chunk.
inline constexpr int64_t kTokenDim = -1;

// "f32[T, 384]", "planes<3>[1024, 384]", "tokens<8>[T, 384]".
struct Type {
  ElementType element = ElementType::kF32;
  int code_bits = 0;  // kTokens, kPlanes, kBase5, kBase3: bits of a code
  std::vector<int64_t> shape;

  bool operator==(const Type&) const = default;
};
std::string to_string(const Type& type);
Result<Type> parse_type(std::string_view text);
// Product of the dimensions; the type must not have a token dimension.
int64_t element_count(const Type& type);
// Bytes of a tensor of this type without token dimensions (packed types: with row padding).
int64_t byte_size(const Type& type);
// f32, f16 or bf16.
bool is_float(ElementType element);
// Packed weight codes: planes, base5 or base3.
bool is_packed(ElementType element);
// What the device calls a float element type; `element` must be one.
compute::FloatType float_type(ElementType element);
// The layout of a packed tensor type.
quant::PackedLayout packed_layout(const Type& type);
// "f32[T, cols]", the type of most values.
Type activation_type(int64_t cols);

// Where a tensor's bytes are. Handles are cheap to copy; owned bytes are shared and immutable.
class TensorData {
 public:
  TensorData() = default;  // no bytes: shapes-only modules and parsed text
  static TensorData file_range(std::shared_ptr<const MappedFile> file, size_t offset, size_t size);
  static TensorData owned(std::vector<std::byte> bytes);
  // Owned bytes from any trivially copyable vector.
  template <class T>
  static TensorData from_vector(const std::vector<T>& values) {
    const auto* begin = reinterpret_cast<const std::byte*>(values.data());
    return owned({begin, begin + values.size() * sizeof(T)});
  }

  bool present() const { return file_ != nullptr || bytes_ != nullptr; }
  std::span<const std::byte> bytes() const;
  // Lets the pages of a file range go (they come back on the next read); no effect on owned bytes.
  void drop_pages() const;

 private:
  std::shared_ptr<const MappedFile> file_;
  size_t offset_ = 0;
  size_t size_ = 0;
  std::shared_ptr<const std::vector<std::byte>> bytes_;
};

struct Tensor {
  Type type;
  TensorData data;
  // 32 hex digits of the bytes' digest for text; computed on demand, kept when parsed.
  std::string digest;
};

// The digest of the tensor's bytes, or the one that it was parsed with; empty when it has neither.
std::string tensor_digest(const Tensor& tensor);

// Largest element count that the text form accepts, far beyond any tensor and far below overflow.
inline constexpr int64_t kMaxElements = int64_t{1} << 46;

// The tensor's elements as float32 (kF32, kF16, kBF16 only; InvalidArgument otherwise or without
// data).
Result<std::vector<float>> to_float(const Tensor& tensor);
// A tensor of any dense or packed type; `data` may be absent.
Tensor make_tensor(ElementType element, int code_bits, std::vector<int64_t> shape, TensorData data);
Tensor make_f32_tensor(std::vector<int64_t> shape, const std::vector<float>& values);
// Rounded half to even; magnitudes from 65520 on become infinite.
Tensor make_f16_tensor(std::vector<int64_t> shape, const std::vector<float>& values);

}  // namespace abq::ir
