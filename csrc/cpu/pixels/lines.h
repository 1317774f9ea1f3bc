#pragma once

// Lines of pixels along one axis, some of them at a time: spline_filter. Lanes go over lines.

#include "cpu/simd/scalars.h"
#include "math/splines.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Lines that are filtered together: an item. Their pixels lie side by side in scratch.
constexpr int kLineLanes = kLineBytes / sizeof(compute_t);

/// Where the lines of an item begin. Spare lanes repeat the last line.
struct LineOffsets {
  int count;
  bool from_side_by_side = true;
  bool to_side_by_side = true;
  int64_t from[kLineLanes];
  int64_t to[kLineLanes];

  LineOffsets(const SplineParams& params, int64_t first)
      : count(static_cast<int>(std::min<int64_t>(kLineLanes, params.lines - first))) {
    int64_t index[SplineParams::kOthers];
    for (int d = 0; d < SplineParams::kOthers; ++d) {
      index[d] = first % params.size[d];
      first /= params.size[d];
    }
    for (int i = 0; i < count; ++i) {
      from[i] = to[i] = 0;
      for (int d = 0; d < SplineParams::kOthers; ++d) {
        from[i] += index[d] * params.from_strides[d];
        to[i] += index[d] * params.to_strides[d];
      }
      for (int d = 0; d < SplineParams::kOthers && ++index[d] == params.size[d]; ++d) index[d] = 0;
      from_side_by_side = from_side_by_side && from[i] == from[0] + i;
      to_side_by_side = to_side_by_side && to[i] == to[0] + i;
    }
    for (int i = count; i < kLineLanes; ++i) {
      from[i] = from[count - 1];
      to[i] = to[count - 1];
    }
    from_side_by_side = from_side_by_side && count == kLineLanes;
    to_side_by_side = to_side_by_side && count == kLineLanes;
  }
};

/// Calls visit(k, i) for all pixels k of lines of `size` and lanes i below `count`, some pixels of
/// one line after the other: lines may be apart from each other, or their pixels.
template <typename Visit>
GRIDSAMPLE_INLINE void for_each_pixel(int64_t size, int count, const Visit& visit) {
  constexpr int64_t kRun = 64 / sizeof(compute_t);
  int64_t first = 0;
  for (; first + kRun <= size; first += kRun) {
    for (int i = 0; i < count; ++i) {
      GRIDSAMPLE_UNROLL_16
      for (int64_t k = 0; k < kRun; ++k) visit(first + k, i);
    }
  }
  for (int i = 0; i < count; ++i) {
    for (int64_t k = first; k < size; ++k) visit(k, i);
  }
}

template <typename scalar>
void spline_filter_items(const SplineParams& params, int64_t worker, int64_t begin, int64_t end) {
  constexpr int kLanes = kLineLanes;
  const int64_t size = params.axis.size;
  const auto* from = static_cast<const typename scalar::storage_t*>(params.from.data);
  auto* to = static_cast<compute_t*>(params.to.data);
  compute_t* scratch = static_cast<compute_t*>(params.scratch) + worker * size * kLanes;
  const auto keep = [&](int64_t k, const compute_t(&values)[kLanes]) GRIDSAMPLE_INLINE_LAMBDA {
    GRIDSAMPLE_SIMD
    for (int i = 0; i < kLanes; ++i) scratch[k * kLanes + i] = values[i];
  };
  const auto kept = [&](int64_t k, compute_t(&values)[kLanes]) GRIDSAMPLE_INLINE_LAMBDA {
    GRIDSAMPLE_SIMD
    for (int i = 0; i < kLanes; ++i) values[i] = scratch[k * kLanes + i];
  };
  for (int64_t item = begin; item < end; ++item) {
    const LineOffsets offsets(params, item * kLanes);
    if (offsets.from_side_by_side && offsets.to_side_by_side) {
      const auto load = [&](int64_t k, compute_t(&values)[kLanes]) GRIDSAMPLE_INLINE_LAMBDA {
        const auto* pixels = from + offsets.from[0] + k * params.from_stride;
        GRIDSAMPLE_SIMD
        for (int i = 0; i < kLanes; ++i) {
          values[i] = scalar::template load<compute_t>(pixels[i]);
        }
      };
      const auto store = [&](int64_t k, const compute_t(&values)[kLanes]) GRIDSAMPLE_INLINE_LAMBDA {
        compute_t* coefficients = to + offsets.to[0] + k * params.to_stride;
        GRIDSAMPLE_SIMD
        for (int i = 0; i < kLanes; ++i) coefficients[i] = values[i];
      };
      filter_lines<compute_t, kLanes>(params.axis, load, keep, kept, store);
      continue;
    }
    for_each_pixel(size, kLanes, [&](int64_t k, int i) GRIDSAMPLE_INLINE_LAMBDA {
      scratch[k * kLanes + i] =
          scalar::template load<compute_t>(from[offsets.from[i] + k * params.from_stride]);
    });
    filter_lines<compute_t, kLanes>(params.axis, kept, keep, kept, keep);
    for_each_pixel(size, offsets.count, [&](int64_t k, int i) GRIDSAMPLE_INLINE_LAMBDA {
      to[offsets.to[i] + k * params.to_stride] = scratch[k * kLanes + i];
    });
  }
}

GRIDSAMPLE_NAMESPACE_END
