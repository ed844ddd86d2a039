// Loops over contiguous elements that give a ragged end to the same vector code.
#pragma once

#include "compute/cpu/isa/vector.h"

namespace abq::compute::ABQ_ISA_NAMESPACE {
namespace {

struct WholeVector {
  Float load(const float* p) const { return ABQ_ISA_NAMESPACE::load(p); }
  void store(float* p, Float v) const { ABQ_ISA_NAMESPACE::store(p, v); }
  Float kept(Float v) const { return v; }
};

// The first `count` < kLanes elements; the other lanes load as zero, are not stored, and are zero
// in what is kept().
struct PartVector {
  int64_t count;

  Float load(const float* p) const { return load_partial(p, count); }
  void store(float* p, Float v) const { store_partial(p, v, count); }
  Float kept(Float v) const {
    float lanes[kLanes];
    ABQ_ISA_NAMESPACE::store(lanes, v);
    return load_partial(lanes, count);
  }
};

// body(index, access) for each vector of `count` elements, in order.
template <class Body>
inline void for_vectors(int64_t count, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    body(i, WholeVector{});
  if (i < count) body(i, PartVector{count - i});
}

}  // namespace
}  // namespace abq::compute::ABQ_ISA_NAMESPACE
