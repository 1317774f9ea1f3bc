#pragma once

// Several vectors as a number, for the templates of math/: `Numbers` is what they call T.
//
// Several, because each operation on a coordinate waits for the one before: from code that goes
// from one vector to the next, CPUs do not find enough to do meanwhile.

#include "cpu/simd/lanes.h"
#include "math/coordinates.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Lanes over samples.
constexpr int kSampleLanes = kFullLanes<compute_t>;
using SampleLanes = Vector<compute_t, kSampleLanes>;
/// All ones or 0.
using mask_t = std::conditional_t<sizeof(compute_t) == 4, int32_t, int64_t>;
using MaskLanes = Vector<mask_t, kSampleLanes>;

constexpr int kNumbersVectors = 4;
constexpr int kNumbers = kNumbersVectors * kSampleLanes;

/// function(v) for each vector.
template <typename Result, typename F>
GRIDSAMPLE_INLINE Result for_vectors(const F& function) {
  Result result;
  GRIDSAMPLE_UNROLL
  for (int v = 0; v < kNumbersVectors; ++v) result.vector[v] = function(v);
  return result;
}

/// Of each lane, whether a comparison holds.
struct Condition {
  MaskLanes vector[kNumbersVectors];
};

struct Numbers {
  SampleLanes vector[kNumbersVectors];

  Numbers() = default;
  GRIDSAMPLE_INLINE Numbers(compute_t number) {
    GRIDSAMPLE_UNROLL
    for (auto& lanes : vector) lanes = broadcast<compute_t, kSampleLanes>(number);
  }
};

#define GRIDSAMPLE_OPERATOR(Result, Operand, sign, operation)                               \
  GRIDSAMPLE_INLINE Result operator sign(const Operand& a, const Operand& b) {              \
    return for_vectors<Result>(                                                             \
        [&](int v) GRIDSAMPLE_INLINE_LAMBDA { return a.vector[v] operation b.vector[v]; }); \
  }
GRIDSAMPLE_OPERATOR(Numbers, Numbers, +, +)
GRIDSAMPLE_OPERATOR(Numbers, Numbers, -, -)
GRIDSAMPLE_OPERATOR(Numbers, Numbers, *, *)
GRIDSAMPLE_OPERATOR(Condition, Numbers, ==, ==)
GRIDSAMPLE_OPERATOR(Condition, Numbers, <, <)
GRIDSAMPLE_OPERATOR(Condition, Numbers, >, >)
GRIDSAMPLE_OPERATOR(Condition, Numbers, >=, >=)
GRIDSAMPLE_OPERATOR(Condition, Condition, &, &)
GRIDSAMPLE_OPERATOR(Condition, Condition, !=, ^)
#undef GRIDSAMPLE_OPERATOR

GRIDSAMPLE_INLINE Numbers operator-(const Numbers& a) {
  return for_vectors<Numbers>([&](int v) GRIDSAMPLE_INLINE_LAMBDA { return -a.vector[v]; });
}
GRIDSAMPLE_INLINE Numbers select(const Condition& condition, const Numbers& yes,
                                 const Numbers& no) {
  return for_vectors<Numbers>([&](int v) GRIDSAMPLE_INLINE_LAMBDA {
    return condition.vector[v] ? yes.vector[v] : no.vector[v];
  });
}
GRIDSAMPLE_INLINE Numbers magnitude(const Numbers& x) {
  const auto sign = (MaskLanes)broadcast<compute_t, kSampleLanes>(compute_t(-0.0));
  return for_vectors<Numbers>([&](int v) GRIDSAMPLE_INLINE_LAMBDA {
    return (SampleLanes)((MaskLanes)x.vector[v] & ~sign);
  });
}
GRIDSAMPLE_INLINE Numbers round_half_even(const Numbers& x) {
  return for_vectors<Numbers>([&](int v) GRIDSAMPLE_INLINE_LAMBDA {
    return round_lanes_half_even<compute_t, kSampleLanes>(x.vector[v]);
  });
}
GRIDSAMPLE_INLINE Numbers round_down(const Numbers& x) {
  return for_vectors<Numbers>([&](int v) GRIDSAMPLE_INLINE_LAMBDA {
    return round_lanes_down<compute_t, kSampleLanes>(x.vector[v]);
  });
}
GRIDSAMPLE_INLINE Numbers finite(const Numbers& x) {
  return clamp(x, Numbers(-kLargest<compute_t>), Numbers(kLargest<compute_t>));
}
GRIDSAMPLE_INLINE bool any(const Condition& condition) {
  MaskLanes any{};
  GRIDSAMPLE_UNROLL
  for (const auto& lanes : condition.vector) any |= lanes;
  return any_lane<mask_t, kSampleLanes>(any);
}

GRIDSAMPLE_NAMESPACE_END
