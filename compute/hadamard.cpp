#include "compute/hadamard.h"

#include <bit>
#include <cmath>
#include <map>
#include <mutex>

#include "compute/paley.h"
#include "support/status.h"

namespace abq::compute {
namespace {

// m of n = m 2^k; 0 when there is none.
int64_t least_order(int64_t size) {
  if (size < 1) return 0;
  int64_t odd = size;
  while (odd % 2 == 0)
    odd /= 2;
  if (odd == 1) return 1;
  for (int64_t order = 4 * odd; order <= size && order <= kMaxPaleyOrder; order *= 2)
    if (size % order == 0 && has_paley(order)) return order;
  return 0;
}

HadamardFactors make_factors(int64_t size) {
  HadamardFactors factors;
  factors.order = least_order(size);
  factors.length = size / factors.order;
  if (factors.order == 1) return factors;
  factors.mix = paley_matrix(factors.order);
  factors.mix_transposed.resize(factors.mix.size());
  for (int64_t i = 0; i < factors.order; ++i)
    for (int64_t j = 0; j < factors.order; ++j)
      factors.mix_transposed[static_cast<size_t>(j * factors.order + i)] =
          factors.mix[static_cast<size_t>(i * factors.order + j)];
  return factors;
}

}  // namespace

float HadamardFactors::scale() const {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(size())));
}

double hadamard_entry(const HadamardFactors& factors, int64_t row, int64_t column) {
  const auto common = static_cast<uint64_t>(row % factors.length & column % factors.length);
  const double sylvester = std::popcount(common) % 2 == 0 ? 1.0 : -1.0;
  if (factors.order == 1) return sylvester;
  const int64_t at = row / factors.length * factors.order + column / factors.length;
  return sylvester * static_cast<double>(factors.mix[static_cast<size_t>(at)]);
}

bool has_hadamard(int64_t size) {
  return least_order(size) > 0;
}

const HadamardFactors& hadamard_factors(int64_t size) {
  ABQ_CHECK(has_hadamard(size));
  static std::mutex mutex;
  static std::map<int64_t, HadamardFactors> made;
  const std::lock_guard<std::mutex> lock(mutex);
  auto found = made.find(size);
  if (found == made.end()) found = made.emplace(size, make_factors(size)).first;
  return found->second;
}

int64_t largest_hadamard(int64_t columns, int64_t most_order) {
  for (int64_t divisor = 1; divisor < columns; ++divisor) {
    if (columns % divisor != 0) continue;
    const int64_t order = least_order(columns / divisor);
    if (order > 0 && order <= most_order) return columns / divisor;
  }
  return 1;
}

int64_t largest_hadamard(int64_t columns) {
  return largest_hadamard(columns, kMaxPaleyOrder);
}

int64_t online_hadamard(int64_t columns, int bits) {
  constexpr int kFineBits = 8;
  constexpr int64_t kFewParts = 64;
  return largest_hadamard(columns, bits >= kFineBits ? kFewParts : kMaxPaleyOrder);
}

}  // namespace abq::compute
