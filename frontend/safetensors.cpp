#include "frontend/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <string_view>

#include "frontend/json.h"
#include "support/log.h"

namespace abq::frontend {
namespace {

constexpr size_t kLengthBytes = 8;
// The format's own limit.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;

struct Dtype {
  std::string_view name;
  size_t bytes;
  std::optional<ir::ElementType> element;  // of the dtypes that tensor() hands out
};
constexpr std::array<Dtype, 16> kDtypes = {{
    {"F32", 4, ir::ElementType::kF32},
    {"F16", 2, ir::ElementType::kF16},
    {"BF16", 2, ir::ElementType::kBF16},
    {"I32", 4, ir::ElementType::kI32},
    {"BOOL", 1, std::nullopt},
    {"U8", 1, std::nullopt},
    {"I8", 1, std::nullopt},
    {"F8_E5M2", 1, std::nullopt},
    {"F8_E4M3", 1, std::nullopt},
    {"I16", 2, std::nullopt},
    {"U16", 2, std::nullopt},
    {"U32", 4, std::nullopt},
    {"F64", 8, std::nullopt},
    {"I64", 8, std::nullopt},
    {"U64", 8, std::nullopt},
    {"C64", 8, std::nullopt},
}};

const Dtype* find_dtype(std::string_view name) {
  const auto* row = std::find_if(kDtypes.begin(), kDtypes.end(),
                                 [&](const Dtype& dtype) { return dtype.name == name; });
  return row == kDtypes.end() ? nullptr : row;
}

uint64_t read_length(std::span<const std::byte> bytes) {
  uint64_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) {
    length = (length << 8) | std::to_integer<uint64_t>(bytes[i]);
  }
  return length;
}

// A non-negative integer that fits int64, the only numbers that a header has.
std::optional<int64_t> natural(const Json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto number = value.get<uint64_t>();
  if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
  return static_cast<int64_t>(number);
}

std::optional<std::vector<int64_t>> naturals(const Json& tensor, const char* key) {
  const auto field = tensor.find(key);
  if (field == tensor.end() || !field->is_array()) return std::nullopt;
  std::vector<int64_t> values;
  for (const Json& element : *field) {
    const std::optional<int64_t> value = natural(element);
    if (!value) return std::nullopt;
    values.push_back(*value);
  }
  return values;
}

// Bytes of `shape` elements of `element_bytes` each; nullopt on overflow.
std::optional<size_t> byte_count(const std::vector<int64_t>& shape, size_t element_bytes) {
  size_t bytes = element_bytes;
  for (const int64_t dim : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<size_t>(dim), &bytes)) return std::nullopt;
  }
  return bytes;
}

// `subject` is "<path>: <tensor>".
Result<SafetensorsEntry> parse_entry(const Json& tensor, const std::string& subject,
                                     size_t data_begin, size_t file_size) {
  if (!tensor.is_object()) {
    return corrupt("{}: expected an object, got {}", subject, describe(tensor));
  }
  const auto dtype_field = tensor.find("dtype");
  if (dtype_field == tensor.end() || !dtype_field->is_string()) {
    return corrupt("{}: dtype is missing or not a string", subject);
  }
  const auto& dtype_name = dtype_field->get_ref<const std::string&>();
  const Dtype* dtype = find_dtype(dtype_name);
  if (dtype == nullptr) {
    return unsupported("{}: unknown dtype {}", subject, describe(*dtype_field));
  }
  std::optional<std::vector<int64_t>> shape = naturals(tensor, "shape");
  if (!shape) {
    return corrupt("{}: shape is missing or not a list of non-negative integers", subject);
  }
  const std::optional<std::vector<int64_t>> offsets = naturals(tensor, "data_offsets");
  if (!offsets || offsets->size() != 2) {
    return corrupt("{}: data_offsets is missing or not two non-negative integers", subject);
  }
  const auto begin = static_cast<size_t>((*offsets)[0]);
  const auto end = static_cast<size_t>((*offsets)[1]);
  const size_t data_size = file_size - data_begin;
  if (begin > end || end > data_size) {
    return corrupt("{}: data_offsets [{}, {}] are out of range; the file has {} bytes of data",
                   subject, begin, end, data_size);
  }
  const std::optional<size_t> expected = byte_count(*shape, dtype->bytes);
  if (!expected || *expected != end - begin) {
    return corrupt("{}: {} [{}] takes {} bytes, but data_offsets [{}, {}] hold {}", subject,
                   dtype_name, fmt::join(*shape, ", "),
                   expected ? fmt::format("{}", *expected) : "more than 2^64", begin, end,
                   end - begin);
  }
  return SafetensorsEntry{dtype_name, std::move(*shape), data_begin + begin, data_begin + end};
}

// The tensors must tile [data_begin, file_size).
Status check_coverage(const std::map<std::string, SafetensorsEntry>& entries,
                      const std::string& path, size_t data_begin, size_t file_size) {
  using Item = std::pair<const std::string, SafetensorsEntry>;
  std::vector<const Item*> order;
  for (const Item& item : entries) {
    order.push_back(&item);
  }
  std::sort(order.begin(), order.end(), [](const Item* a, const Item* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  size_t covered = data_begin;
  const Item* previous = nullptr;
  for (const Item* item : order) {
    const SafetensorsEntry& entry = item->second;
    if (entry.begin < covered) {
      return corrupt("{}: tensors {} and {} overlap at data byte {}", path, previous->first,
                     item->first, entry.begin - data_begin);
    }
    if (entry.begin > covered) {
      return corrupt("{}: data bytes [{}, {}) before {} belong to no tensor", path,
                     covered - data_begin, entry.begin - data_begin, item->first);
    }
    covered = entry.end;
    previous = item;
  }
  if (covered != file_size) {
    return corrupt("{}: {} bytes after the last tensor belong to none", path, file_size - covered);
  }
  return {};
}

}  // namespace

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  ABQ_ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file, MappedFile::open(path));
  const std::span<const std::byte> bytes = file->bytes();
  if (bytes.size() < kLengthBytes) {
    return corrupt("{}: {} bytes is too short for a safetensors file", path, bytes.size());
  }
  const uint64_t length = read_length(bytes);
  if (length > kMaxHeaderBytes) {
    return corrupt("{}: header of {} bytes is over the format's limit of {}", path, length,
                   kMaxHeaderBytes);
  }
  if (length > bytes.size() - kLengthBytes) {
    return corrupt("{}: header of {} bytes goes beyond the file of {}; is the download complete",
                   path, length, bytes.size());
  }
  const size_t data_begin = kLengthBytes + static_cast<size_t>(length);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes,
                              static_cast<size_t>(length));
  ABQ_ASSIGN_OR_RETURN(const Json header,
                       parse_json_object(text, path + ": header", StatusCode::kCorrupt));
  std::map<std::string, SafetensorsEntry> entries;
  for (const auto& [name, tensor] : header.items()) {
    if (name == "__metadata__") continue;  // free text of the writer
    ABQ_ASSIGN_OR_RETURN(SafetensorsEntry entry,
                         parse_entry(tensor, path + ": " + name, data_begin, bytes.size()));
    entries.emplace(name, std::move(entry));
  }
  ABQ_RETURN_IF_ERROR(check_coverage(entries, path, data_begin, bytes.size()));
  return SafetensorsFile(std::move(file), data_begin, std::move(entries));
}

Result<ir::Tensor> SafetensorsFile::tensor(const std::string& name) const {
  const auto item = entries_.find(name);
  if (item == entries_.end()) return not_found("{}: no tensor {}", path(), name);
  const SafetensorsEntry& entry = item->second;
  const Dtype* dtype = find_dtype(entry.dtype);
  if (!dtype->element) {
    return unsupported("{}: {}: dtype {} is not supported; expected F32, F16 or BF16", path(), name,
                       entry.dtype);
  }
  ir::Tensor tensor;
  tensor.type = {*dtype->element, 0, entry.shape};
  const size_t size = entry.end - entry.begin;
  if (entry.begin % dtype->bytes == 0) {
    tensor.data = ir::TensorData::file_range(file_, entry.begin, size);
  } else {
    spdlog::debug("{}: {}: copied, its bytes are not aligned to {}", path(), name, dtype->bytes);
    const std::span<const std::byte> bytes = file_->bytes().subspan(entry.begin, size);
    tensor.data = ir::TensorData::owned({bytes.begin(), bytes.end()});
  }
  return tensor;
}

}  // namespace abq::frontend
