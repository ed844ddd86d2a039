#include "support/float16.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>

using namespace abq;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

bool is_f16_nan(uint32_t half) {
  return (half & 0x7fffu) > 0x7c00u;
}

}  // namespace

TEST_CASE("all 65536 halfs survive the way to float32 and back") {
  int wrong = 0;
  for (uint32_t half = 0; half < 65536; ++half) {
    const float value = f16_to_float(static_cast<uint16_t>(half));
    const uint16_t back = float_to_f16(value);
    if (is_f16_nan(half)) {
      wrong += !std::isnan(value) || !is_f16_nan(back) || (back ^ half) >> 15;
    } else {
      wrong += back != half;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("all 65536 bfloat16 survive the way to float32 and back") {
  int wrong = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = bf16_to_float(static_cast<uint16_t>(bits));
    const uint16_t back = float_to_bf16(value);
    wrong += std::isnan(value) ? !std::isnan(bf16_to_float(back)) : back != bits;
  }
  CHECK(wrong == 0);
}

TEST_CASE("every finite half has the value of its fields") {
  int wrong = 0;
  for (uint32_t half = 0; half < 0x7c00; ++half) {
    const int exponent = static_cast<int>(half >> 10);
    const int mantissa = static_cast<int>(half & 1023);
    const double value =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    wrong += static_cast<double>(f16_to_float(static_cast<uint16_t>(half))) != value;
    wrong += static_cast<double>(f16_to_float(static_cast<uint16_t>(half | 0x8000))) != -value;
  }
  CHECK(wrong == 0);
}

TEST_CASE("between every two halfs the nearer wins and the middle goes to the even one") {
  int wrong = 0;
  for (uint32_t half = 0; half < 0x7bff; ++half) {
    const float low = f16_to_float(static_cast<uint16_t>(half));
    const float high = f16_to_float(static_cast<uint16_t>(half + 1));
    const float middle = (low + high) / 2;  // exact: float32 has the spare bits
    const uint32_t even = half % 2 == 0 ? half : half + 1;
    wrong += float_to_f16(middle) != even;
    wrong += float_to_f16(std::nextafter(middle, 0.0f)) != half;
    wrong += float_to_f16(std::nextafter(middle, kInf)) != half + 1;
    wrong += float_to_f16(-middle) != (even | 0x8000u);
  }
  CHECK(wrong == 0);
}

TEST_CASE("between every two bfloat16 the middle goes to the even one") {
  int wrong = 0;
  for (uint32_t bits = 0; bits < 0x7f80; ++bits) {
    const float middle = std::bit_cast<float>((bits << 16) | 0x8000u);
    wrong += float_to_bf16(middle) != (bits % 2 == 0 ? bits : bits + 1);
    wrong += float_to_bf16(std::bit_cast<float>((bits << 16) | 0x7fffu)) != bits;
    wrong += float_to_bf16(std::bit_cast<float>((bits << 16) | 0x8001u)) != bits + 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("golden roundings to half") {
  CHECK(float_to_f16(1.0f) == 0x3c00);
  CHECK(float_to_f16(-2.0f) == 0xc000);
  CHECK(float_to_f16(65504.0f) == 0x7bff);
  CHECK(float_to_f16(65519.996f) == 0x7bff);
  CHECK(float_to_f16(65520.0f) == 0x7c00);
  CHECK(float_to_f16(1e30f) == 0x7c00);
  CHECK(float_to_f16(-kInf) == 0xfc00);
  CHECK(float_to_f16(0x1p-24f) == 0x0001);
  CHECK(float_to_f16(0x1p-25f) == 0x0000);
  CHECK(float_to_f16(0x1.000002p-25f) == 0x0001);
  CHECK(float_to_f16(0x1.ff8p-15f) == 0x03ff);
  CHECK(float_to_f16(0x1.ffbffep-15f) == 0x03ff);
  CHECK(float_to_f16(0x1.ffcp-15f) == 0x0400);
  CHECK(float_to_f16(-0.0f) == 0x8000);
  CHECK(float_to_f16(1e-42f) == 0x0000);
}

TEST_CASE("golden roundings to bfloat16, and NaN never becomes Inf") {
  CHECK(float_to_bf16(1.0f) == 0x3f80);
  CHECK(float_to_bf16(std::numeric_limits<float>::max()) == 0x7f80);
  CHECK(float_to_bf16(kInf) == 0x7f80);
  CHECK(std::isnan(bf16_to_float(float_to_bf16(std::bit_cast<float>(0x7f800001u)))));
  CHECK(std::isnan(bf16_to_float(float_to_bf16(std::bit_cast<float>(0xffffffffu)))));
  CHECK(std::isnan(f16_to_float(float_to_f16(std::bit_cast<float>(0x7f800001u)))));
}
