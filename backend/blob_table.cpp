#include <algorithm>
#include <cstring>
#include <optional>

#include "backend/lowering.h"
#include "support/checksum.h"

namespace abq::backend {
namespace {

std::optional<proto::ElementType> stored_type(ir::ElementType type) {
  switch (type) {
    case ir::ElementType::kF32:
      return proto::F32;
    case ir::ElementType::kF16:
      return proto::F16;
    case ir::ElementType::kBF16:
      return proto::BF16;
    case ir::ElementType::kU8:
      return proto::U8;
    case ir::ElementType::kPlanes:
      return proto::PLANES;
    case ir::ElementType::kBase5:
      return proto::BASE5;
    case ir::ElementType::kBase3:
      return proto::BASE3;
    case ir::ElementType::kI32:
    case ir::ElementType::kTokens:
      break;
  }
  return std::nullopt;
}

bool same_type(const proto::Blob& blob, proto::ElementType type, const ir::Type& tensor) {
  return blob.type() == type && static_cast<int>(blob.code_bits()) == tensor.code_bits &&
         std::equal(tensor.shape.begin(), tensor.shape.end(), blob.shape().begin(),
                    blob.shape().end());
}

// The bits of `T`-sized floats that are all ones in NaN and Inf alone.
template <class T>
std::optional<size_t> first_with_all_bits(std::span<const std::byte> bytes, T exponent) {
  for (size_t i = 0; i < bytes.size() / sizeof(T); ++i) {
    T bits;
    std::memcpy(&bits, bytes.data() + i * sizeof(T), sizeof(T));
    if ((bits & exponent) == exponent) return i;
  }
  return std::nullopt;
}

// Passes check the weights that they quantize; embedding, head and norms come here as they were.
Status check_finite(const std::string& name, const ir::Type& type,
                    std::span<const std::byte> bytes) {
  std::optional<size_t> bad;
  if (type.element == ir::ElementType::kF32) bad = first_with_all_bits(bytes, uint32_t{0x7F800000});
  if (type.element == ir::ElementType::kF16) bad = first_with_all_bits(bytes, uint16_t{0x7C00});
  if (type.element == ir::ElementType::kBF16) bad = first_with_all_bits(bytes, uint16_t{0x7F80});
  if (!bad) return {};
  const auto columns = static_cast<size_t>(type.shape.back());
  return invalid_argument("{}: row {}, column {} is NaN or Inf; expected finite weights", name,
                          *bad / columns, *bad % columns);
}

}  // namespace

Result<uint32_t> BlobTable::index_of(const ir::Module& module, const std::string& tensor_name) {
  const auto found = module.tensors.find(tensor_name);
  if (found == module.tensors.end()) return not_found("{}: no such tensor", tensor_name);
  const ir::Tensor& tensor = found->second;
  const std::optional<proto::ElementType> type = stored_type(tensor.type.element);
  if (!type) {
    return unsupported("{}: a tensor of type {} is no weight", tensor_name,
                       ir::to_string(tensor.type));
  }
  std::vector<uint32_t>& written = written_[tensor_name];
  if (!tensor.data.present()) {
    // Freed after an earlier region wrote it.
    if (!written.empty() && same_type(blob(written.back()), *type, tensor.type))
      return written.back();
    return invalid_argument("{}: has no bytes; a plan needs the weights", tensor_name);
  }
  const std::span<const std::byte> bytes = tensor.data.bytes();
  if (static_cast<int64_t>(bytes.size()) != ir::byte_size(tensor.type)) {
    return internal_error("{}: has {} bytes, expected {} for {}", tensor_name, bytes.size(),
                          ir::byte_size(tensor.type), ir::to_string(tensor.type));
  }
  // A pass may have replaced the tensor since: only equal bytes are shared.
  for (const uint32_t index : written) {
    if (same_type(blob(index), *type, tensor.type) && blob(index).checksum() == checksum64(bytes))
      return index;
  }
  ABQ_RETURN_IF_ERROR(check_finite(tensor_name, tensor.type, bytes));
  ABQ_ASSIGN_OR_RETURN(const uint32_t index,
                       writer_.add_blob(tensor_name, *type, tensor.type.shape,
                                        static_cast<uint32_t>(tensor.type.code_bits), bytes));
  tensor.data.drop_pages();
  written.push_back(index);
  return index;
}

}  // namespace abq::backend
