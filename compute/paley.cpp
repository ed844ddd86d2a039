#include "compute/paley.h"

#include <array>
#include <cstddef>

#include "support/status.h"

namespace abq::compute {
namespace {

// Polynomials up to this degree without roots are irreducible, which makes fields easy to find.
constexpr int kMaxDegree = 3;

struct PrimePower {
  int64_t prime = 0;
  int degree = 0;  // 0: no prime power, or one of a degree beyond kMaxDegree
};

PrimePower prime_power(int64_t q) {
  if (q < 2) return {};
  int64_t prime = 2;
  while (q % prime != 0)
    prime = prime * prime > q ? q : prime + 1;
  PrimePower found{prime, 0};
  for (; q % prime == 0; q /= prime)
    ++found.degree;
  return q == 1 && found.degree <= kMaxDegree ? found : PrimePower{};
}

// The field of p^d elements: polynomials over the integers modulo p, modulo an irreducible one of
// degree d. An element is the number whose digits to base p are the coefficients.
class Field {
 public:
  explicit Field(PrimePower q) : p_(q.prime), degree_(q.degree), size_(1) {
    for (int i = 0; i < degree_; ++i)
      size_ *= p_;
    // x^d + the polynomial `modulus`; without roots, so irreducible at degrees 2 and 3.
    int64_t modulus = 0;
    while (degree_ > 1 && has_root(digits(modulus)))
      ++modulus;
    modulus_ = digits(modulus);
  }

  int64_t size() const { return size_; }

  int64_t subtract(int64_t a, int64_t b) const {
    Digits x = digits(a);
    const Digits y = digits(b);
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = (x[i] - y[i] + p_) % p_;
    return number(x);
  }

  int64_t multiply(int64_t a, int64_t b) const {
    const Digits x = digits(a);
    const Digits y = digits(b);
    std::array<int64_t, 2 * kMaxDegree> product = {};
    for (size_t i = 0; i < x.size(); ++i)
      for (size_t j = 0; j < y.size(); ++j)
        product[i + j] = (product[i + j] + x[i] * y[j]) % p_;
    // x^d = -modulus, from the highest power down.
    const auto d = static_cast<size_t>(degree_);
    for (size_t power = product.size(); power-- > d;) {
      for (size_t i = 0; i < d; ++i) {
        int64_t& coefficient = product[power - d + i];
        coefficient = (coefficient + (p_ - modulus_[i]) * product[power]) % p_;
      }
      product[power] = 0;
    }
    Digits rest = {};
    for (size_t i = 0; i < d; ++i)
      rest[i] = product[i];
    return number(rest);
  }

  // 1 for squares, -1 for the others, 0 for 0: by element.
  std::vector<int> quadratic_characters() const {
    std::vector<int> characters(static_cast<size_t>(size_), -1);
    characters[0] = 0;
    for (int64_t a = 1; a < size_; ++a)
      characters[static_cast<size_t>(multiply(a, a))] = 1;
    return characters;
  }

 private:
  using Digits = std::array<int64_t, kMaxDegree>;

  Digits digits(int64_t number) const {
    Digits result = {};
    for (int64_t& digit : result) {
      digit = number % p_;
      number /= p_;
    }
    return result;
  }
  int64_t number(const Digits& digits) const {
    int64_t result = 0;
    for (size_t i = digits.size(); i-- > 0;)
      result = result * p_ + digits[i];
    return result;
  }
  bool has_root(const Digits& low) const {
    for (int64_t x = 0; x < p_; ++x) {
      int64_t value = 1;  // of the leading term, then Horner's scheme
      for (auto i = static_cast<size_t>(degree_); i-- > 0;)
        value = (value * x + low[i]) % p_;
      if (value == 0) return true;
    }
    return false;
  }

  int64_t p_;
  int degree_;
  int64_t size_;
  Digits modulus_ = {};
};

// A conference matrix of order q + 1: 0 on the diagonal, 1 and -1 beside it, C C^T = q I. Symmetric
// for q = 1 (mod 4), antisymmetric for q = 3 (mod 4).
std::vector<float> conference_matrix(const Field& field) {
  const int64_t q = field.size();
  const int64_t order = q + 1;
  const std::vector<int> characters = field.quadratic_characters();
  std::vector<float> c(static_cast<size_t>(order * order), 0.0f);
  for (int64_t i = 0; i < q; ++i) {
    c[static_cast<size_t>(i + 1)] = 1.0f;
    c[static_cast<size_t>((i + 1) * order)] = q % 4 == 1 ? 1.0f : -1.0f;
    for (int64_t j = 0; j < q; ++j) {
      const auto difference = static_cast<size_t>(field.subtract(i, j));
      c[static_cast<size_t>((i + 1) * order + j + 1)] = static_cast<float>(characters[difference]);
    }
  }
  return c;
}

bool is_first_kind(int64_t order) {
  return (order - 1) % 4 == 3 && prime_power(order - 1).degree > 0;
}

bool is_second_kind(int64_t order) {
  return order % 4 == 0 && (order / 2 - 1) % 4 == 1 && prime_power(order / 2 - 1).degree > 0;
}

}  // namespace

bool has_paley(int64_t order) {
  if (order < 4 || order > kMaxPaleyOrder) return false;
  return is_first_kind(order) || is_second_kind(order);
}

std::vector<float> paley_matrix(int64_t order) {
  ABQ_CHECK(has_paley(order));
  std::vector<float> h(static_cast<size_t>(order * order));
  const bool second = is_second_kind(order);  // the symmetric one where there are two
  const int64_t half = second ? order / 2 : order;
  const std::vector<float> c = conference_matrix(Field(prime_power(half - 1)));
  for (int64_t i = 0; i < order; ++i) {
    for (int64_t j = 0; j < order; ++j) {
      const float entry = c[static_cast<size_t>(i % half * half + j % half)];
      const float one = i % half == j % half ? 1.0f : 0.0f;
      float value = entry + one;                           // C + I
      if ((i < half) != (j < half)) value = entry - one;   // C - I beside and below it
      if (i >= half && j >= half) value = -(entry + one);  // -C - I
      h[static_cast<size_t>(i * order + j)] = value;
    }
  }
  return h;
}

}  // namespace abq::compute
