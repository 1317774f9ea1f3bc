#pragma once

// The label of each sample whose taps' weights add up to most, sample by sample.

#include "cpu/kernels/table.h"
#include "cpu/taps/plain_taps.h"
#include "math/labels.h"

GRIDSAMPLE_NAMESPACE_BEGIN

template <Mode kMode>
int64_t label_of(const LabelParams& params, const PlainTaps<kMode>& taps, int64_t first) {
  constexpr int kTaps = kTapsPerAxis<kMode>;
  if (taps.excluded) return params.outside_value;
  if (!taps.inside) return params.fill_value;
  const View& labels = params.labels;
  Votes<compute_t, kTaps * kTaps * kTaps> votes;
  for_taps(taps, [&](int x, int y, int z) {
    const int64_t offset = first + tap_offset(taps, labels, x, y, z);
    votes.add(
        is_inside(taps, x, y, z) ? load_label(labels.data, offset, params.type) : params.fill_value,
        taps.weight[2][z] * (taps.weight[1][y] * taps.weight[0][x]));
  });
  return votes.winner(params.fill_value);
}

template <Mode kMode>
void plain_label_items(const LabelParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const PlainAxes axes(geometry);
  PlainTaps<kMode> taps;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t batch = item / geometry.samples;
    const int64_t sample = item % geometry.samples;
    find_taps(geometry, axes, params.grid, batch, sample, taps);
    const int64_t out = sample_offset(geometry, params.output, batch, sample);
    for (int64_t c = 0; c < geometry.channels; ++c) {
      const int64_t first = batch * params.labels.batch_stride + c * params.labels.channel_stride;
      store_label(params.output.data, out + c * params.output.channel_stride,
                  label_of(params, taps, first), params.type);
    }
  }
}

inline void plain_labels(const LabelParams& params, int64_t begin, int64_t end) {
  dispatch_mode(params.geometry.mode,
                [&]<Mode kMode>() { plain_label_items<kMode>(params, begin, end); });
}

GRIDSAMPLE_NAMESPACE_END
