#include "support/random.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>

using abq::Random;

TEST_CASE("the stream is SplitMix64: its published values for seed 1234567") {
  Random random(1234567);
  CHECK(random.next() == 6457827717110365317u);
  CHECK(random.next() == 3203168211198807973u);
  CHECK(random.next() == 9817491932198370423u);
  CHECK(random.next() == 4593380528125082431u);
  CHECK(random.next() == 16408922859458223821u);
}

TEST_CASE("the same seed gives the same numbers, another seed others") {
  Random a(5);
  Random b(5);
  Random c(6);
  CHECK(a.next() == b.next());
  CHECK(a.normal() == b.normal());
  CHECK(a.next() != c.next());
}

TEST_CASE("uniform numbers lie between 0 and 1 around one half") {
  Random random(7);
  double sum = 0;
  bool inside = true;
  for (int i = 0; i < 100000; ++i) {
    const double u = random.uniform();
    inside &= u >= 0.0 && u < 1.0;
    sum += u;
  }
  CHECK(inside);
  CHECK(sum / 100000 == doctest::Approx(0.5).epsilon(0.01));
}

TEST_CASE("bounded numbers reach every value below the bound and no other") {
  Random random(8);
  std::array<int, 5> seen = {};
  for (int i = 0; i < 50000; ++i) {
    const uint64_t value = random.below(5);
    REQUIRE(value < 5);
    ++seen[value];
  }
  for (const int count : seen)
    CHECK(count == doctest::Approx(10000).epsilon(0.05));
  CHECK(random.below(1) == 0);
}

TEST_CASE("normal numbers have mean 0, variance 1 and no infinity") {
  Random random(9);
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < 100000; ++i) {
    const double x = random.normal();
    REQUIRE(std::isfinite(x));
    sum += x;
    squares += x * x;
  }
  CHECK(std::fabs(sum / 100000) < 0.02);
  CHECK(squares / 100000 == doctest::Approx(1.0).epsilon(0.02));
}
