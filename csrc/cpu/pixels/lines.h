#pragma once

// Lines of pixels along one axis, some of them at a time: spline_filter. Lanes go over lines.

#include "cpu/simd/transpose.h"
#include "math/splines.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Lines that are filtered together: an item. Their pixels lie side by side in scratch.
constexpr int kLineLanes = kLineBytes / sizeof(compute_t);

/// Where the lines of an item begin in one of the tensors.
struct LineOffsets {
  bool are_even = true;
  int64_t step = 0;  // from line to line, if they are even
  int64_t offset[kLineLanes];

  void set(int i, int64_t value) {
    offset[i] = value;
    if (i == 1) step = value - offset[0];
    are_even = are_even && (i == 0 || value - offset[i - 1] == step);
  }
};

/// The lines of an item.
struct Lines {
  int count;
  LineOffsets from;
  LineOffsets to;

  Lines(const SplineParams& params, int64_t first)
      : count(static_cast<int>(std::min<int64_t>(kLineLanes, params.lines - first))) {
    int64_t index[SplineParams::kOthers];
    for (int d = 0; d < SplineParams::kOthers; ++d) {
      index[d] = first % params.size[d];
      first /= params.size[d];
    }
    for (int i = 0; i < count; ++i) {
      int64_t from_offset = 0;
      int64_t to_offset = 0;
      for (int d = 0; d < SplineParams::kOthers; ++d) {
        from_offset += index[d] * params.from_strides[d];
        to_offset += index[d] * params.to_strides[d];
      }
      from.set(i, from_offset);
      to.set(i, to_offset);
      for (int d = 0; d < SplineParams::kOthers && ++index[d] == params.size[d]; ++d) index[d] = 0;
    }
  }

  bool are_side_by_side() const {
    return count == kLineLanes && from.are_even && from.step == 1 && to.are_even && to.step == 1;
  }
};

/// Calls copy(first, count) for runs of lines that lie side by side.
template <typename Copy>
GRIDSAMPLE_INLINE void for_runs(const LineOffsets& lines, int count, const Copy& copy) {
  for (int first = 0; first < count;) {
    int last = first;
    while (last + 1 < count && lines.offset[last + 1] == lines.offset[last] + 1) ++last;
    copy(first, last + 1 - first);
    first = last + 1;
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
    const Lines lines(params, item * kLanes);
    if (lines.are_side_by_side()) {
      const auto load = [&](int64_t k, compute_t(&values)[kLanes]) GRIDSAMPLE_INLINE_LAMBDA {
        const auto* pixels = from + lines.from.offset[0] + k * params.from_stride;
        GRIDSAMPLE_SIMD
        for (int i = 0; i < kLanes; ++i) {
          values[i] = scalar::template load<compute_t>(pixels[i]);
        }
      };
      const auto store = [&](int64_t k, const compute_t(&values)[kLanes]) GRIDSAMPLE_INLINE_LAMBDA {
        compute_t* coefficients = to + lines.to.offset[0] + k * params.to_stride;
        GRIDSAMPLE_SIMD
        for (int i = 0; i < kLanes; ++i) coefficients[i] = values[i];
      };
      filter_lines<compute_t, kLanes>(params.axis, load, keep, kept, store);
      continue;
    }
    if (lines.count < kLanes) std::fill_n(scratch, size * kLanes, compute_t(0));  // spare lanes
    if (params.from_stride == 1 && lines.from.are_even) {
      transpose_to_rows<scalar>(from + lines.from.offset[0], lines.from.step, lines.count, size,
                                scratch, kLanes);
    } else {
      for_runs(lines.from, lines.count, [&](int first, int count) {
        for (int64_t k = 0; k < size; ++k) {
          const auto* pixels = from + lines.from.offset[first] + k * params.from_stride;
          compute_t* values = scratch + k * kLanes + first;
          GRIDSAMPLE_SIMD
          for (int i = 0; i < count; ++i) values[i] = scalar::template load<compute_t>(pixels[i]);
        }
      });
    }
    filter_lines<compute_t, kLanes>(params.axis, kept, keep, kept, keep);
    if (params.to_stride == 1 && lines.to.are_even) {
      transpose_to_planes<ScalarOf<compute_t>>(scratch, kLanes, lines.count, size,
                                               to + lines.to.offset[0], lines.to.step);
    } else {
      for_runs(lines.to, lines.count, [&](int first, int count) {
        for (int64_t k = 0; k < size; ++k) {
          compute_t* coefficients = to + lines.to.offset[first] + k * params.to_stride;
          const compute_t* values = scratch + k * kLanes + first;
          GRIDSAMPLE_SIMD
          for (int i = 0; i < count; ++i) coefficients[i] = values[i];
        }
      });
    }
  }
}

GRIDSAMPLE_NAMESPACE_END
