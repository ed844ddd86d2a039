#include "ir/tensor_text.h"

#include <charconv>

#include "support/float16.h"
#include "support/random.h"

namespace abq::ir {

namespace {

template <class T>
bool read_number(std::string_view text, T& value) {
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && rest == end;
}

}  // namespace

Result<TensorFiller> TensorFiller::create(const Type& type) {
  if (is_packed(type.element) || type.element == ElementType::kTokens) {
    return invalid_argument("a digest (packed codes have no values in text)");
  }
  const int64_t count = element_count(type);
  if (count > kMaxElementsFromText) {
    return invalid_argument("a tensor of at most {} elements for data in text",
                            kMaxElementsFromText);
  }
  return TensorFiller(type.element, count);
}

template <class T>
void TensorFiller::append_bytes(T value) {
  const auto* begin = reinterpret_cast<const std::byte*>(&value);
  bytes_.insert(bytes_.end(), begin, begin + sizeof(T));
  ++appended_;
}

void TensorFiller::append_float(float value) {
  if (element_ == ElementType::kF32) return append_bytes(value);
  append_bytes(element_ == ElementType::kF16 ? float_to_f16(value) : float_to_bf16(value));
}

bool TensorFiller::append(std::string_view number) {
  if (is_float(element_)) {
    float value = 0;
    if (!read_number(number, value)) return false;
    append_float(value);
  } else if (element_ == ElementType::kI32) {
    int32_t value = 0;
    if (!read_number(number, value)) return false;
    append_bytes(value);
  } else {
    uint8_t value = 0;
    if (!read_number(number, value)) return false;
    append_bytes(value);
  }
  return true;
}

bool TensorFiller::fill(std::string_view number) {
  while (!full()) {
    if (!append(number)) return false;
  }
  return true;
}

void TensorFiller::fill_normal(uint64_t seed, double scale) {
  Random random(seed);
  while (!full())
    append_float(static_cast<float>(scale * random.normal()));
}

}  // namespace abq::ir
