// The half kernels' arithmetic without a GPU: what their fragments hold, by the layouts that the
// PTX manual gives for mma.m16n8k16, multiplies to the product of weights and activations.
#include <doctest/doctest.h>

#include <array>

#include "half_test_util.h"
#include "runtime/cuda/half/half_codes.h"

namespace abq::runtime::cuda {
namespace {

double half_of(uint32_t word, int i) {
  return static_cast<double>(f16_to_float(static_cast<uint16_t>(word >> (16 * i))));
}

// A fused multiply-add of float16 whose result must need no rounding.
double exact_half(double value) {
  const float single = static_cast<float>(value);
  CHECK(static_cast<double>(single) == value);
  CHECK(f16_to_float(float_to_f16(single)) == single);
  return value;
}

// The A registers of a lane as values: [register][half of it].
template <class Codes>
std::array<std::array<double, 2>, 4> a_values(const typename Codes::State& state, int tile, int s,
                                              int h, const int32_t* zeros, int g) {
  std::array<std::array<double, 2>, 4> a{};
  constexpr int kBits = Codes::kFieldBits;
  const int bit = field_bit(kBits, s);
  for (int row = 0; row < 2; ++row) {
    const double addend =
        exact_half(half_of(field_offset(bit), 0) - static_cast<double>(zeros[g + 8 * row]));
    for (int pair = 0; pair < 2; ++pair) {
      const uint32_t biased =
          biased_pair<kBits>(Codes::field(state, tile, s, 2 * h + row), bit, pair);
      for (int i = 0; i < 2; ++i) {
        a[static_cast<size_t>(2 * pair + row)][static_cast<size_t>(i)] =
            exact_half(half_of(biased, i) * half_of(field_factor(bit), 0) + addend);
      }
    }
  }
  return a;
}

// d [16][8] += the product of all lanes' fragments.
template <class Codes>
void multiply_step(const std::vector<typename Codes::State>& lanes, int tile, int s, int h,
                   const int32_t* zeros, const uint16_t* columns, int64_t stride,
                   double (&d)[16][8]) {
  double a[16][16];
  double b[16][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4;
    const int t = lane % 4;
    const auto registers = a_values<Codes>(lanes[static_cast<size_t>(lane)], tile, s, h, zeros, g);
    for (int i = 0; i < 8; ++i) {
      const int r = i / 2;
      a[g + (r % 2) * 8][2 * t + i % 2 + (r / 2) * 8] =
          registers[static_cast<size_t>(r)][static_cast<size_t>(i % 2)];
    }
    // Four consecutive float16: register 0, then register 1.
    const uint16_t* from = columns + g * stride + 32 * s + 16 * h + 4 * t;
    for (int i = 0; i < 4; ++i)
      b[2 * t + i % 2 + (i / 2) * 8][g] = static_cast<double>(f16_to_float(from[i]));
  }
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      for (int k = 0; k < 16; ++k)
        d[row][column] += a[row][k] * b[k][column];
    }
  }
}

// One row of tiles times four tokens, per step as the kernels do it.
template <class Codes>
void check_tiles(const quant::WeightSpec& spec, int64_t k) {
  constexpr int64_t kTokens = 4;
  const quant::QuantizedWeights w = random_codes(7, spec, kTileRows, k);
  const HostTiles tiles = make_tiles(w, false);
  const std::vector<float> x = random_tokens(11, kTokens * k);
  const HostHalves halves = make_halves(x, kTokens, k);
  const int k_tiles = tiles_of(k, kTileDepth);
  const int64_t stride = static_cast<int64_t>(k_tiles) * kTileDepth;
  double d[16][8] = {};
  for (int unit = 0; unit < Codes::units(k_tiles); ++unit) {
    const int count = Codes::tiles(k_tiles, unit);
    std::vector<typename Codes::State> lanes(kLanes);
    for (int lane = 0; lane < kLanes; ++lane) {
      uint32_t words[Codes::kLoads][4] = {};
      for (int i = 0; i < Codes::loads(tiles.shape.planes, count); ++i) {
        const int64_t at = Codes::load_index(0, k_tiles, unit, tiles.shape.planes, i, lane) * 4;
        for (int word = 0; word < 4; ++word)
          words[i][word] = tiles.tiles[static_cast<size_t>(at + word)];
      }
      Codes::gather(count, words, lanes[static_cast<size_t>(lane)]);
    }
    for (int i = 0; i < count * kHalfSteps * 2; ++i) {
      const int tile = i / 2 / kHalfSteps;
      multiply_step<Codes>(
          lanes, tile, i / 2 % kHalfSteps, i % 2, tiles.zeros.data(),
          halves.halves.data() + static_cast<int64_t>(unit * Codes::kUnitTiles + tile) * kTileDepth,
          stride, d);
    }
  }
  for (int row = 0; row < 16; ++row) {
    for (int64_t token = 0; token < kTokens; ++token) {
      double expected = 0;
      double size = 0;
      for (int64_t i = 0; i < k; ++i) {
        const double weight = spec.zero_denominator() * w.codes[static_cast<size_t>(row * k + i)] -
                              static_cast<double>(w.zeros[static_cast<size_t>(row)]);
        const double value = static_cast<double>(x[static_cast<size_t>(token * k + i)]);
        expected += weight * value;
        size += std::abs(weight * value);
      }
      const double got = (d[row][2 * token] + d[row][2 * token + 1]) *
                         static_cast<double>(halves.scales[static_cast<size_t>(token)]);
      // Each activation is off by at most half a unit of its low part.
      CHECK(std::abs(got - expected) <= 0x1p-20 * size);
    }
  }
}

}  // namespace

TEST_CASE("float16 fragments of plane tiles multiply to the product of weights and activations") {
  for (const int bits : {1, 2, 3, 4, 5, 6, 7, 8}) {
    CAPTURE(bits);
    const quant::WeightSpec spec{.bits = bits};
    for (const int64_t k : {64, 384, 1000}) {
      CAPTURE(k);
      if (bits == 1) check_tiles<PlaneCodes<1>>(spec, k);
      if (bits == 2) check_tiles<PlaneCodes<2>>(spec, k);
      if (bits == 3 || bits == 4) check_tiles<PlaneCodes<4>>(spec, k);
      if (bits > 4) check_tiles<PlaneCodes<8>>(spec, k);
    }
  }
  check_tiles<PlaneCodes<2>>({.bits = 1, .balanced = true}, 384);
}

TEST_CASE("float16 fragments of base-5 tiles multiply to the product of weights and activations") {
  for (const int64_t k : {64, 384, 1000, 1800}) {
    CAPTURE(k);
    check_tiles<Base5HalfCodes>({.bits = 2, .balanced = true}, k);
  }
}

}  // namespace abq::runtime::cuda
