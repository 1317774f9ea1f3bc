#pragma once

// How grad_input is divided among threads: see GradInputParams.

#include "cpu/pixels/zeros.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// What a work item owns.
struct GradInputItem {
  int64_t input_batch;
  Range channels;
  Range slab;
};

inline GradInputItem grad_input_item(const GradInputParams& params, int64_t item) {
  const Geometry& geometry = params.geometry;
  const int64_t block = item / params.slabs;
  return {block / params.channel_blocks,
          block_range(geometry.channels, params.channel_blocks, block % params.channel_blocks),
          block_range(geometry.input_size[params.slab_axis], params.slabs, item % params.slabs)};
}

inline const TapRange& range_of_tile(const GradInputParams& params, int64_t batch, int64_t t) {
  return params.ranges[batch * tile_count(params.geometry) + t];
}

/// How the taps of a tile lie to a slab.
struct SlabOverlap {
  bool any;      // some may lie inside
  bool crosses;  // some may lie in other slabs
};

inline SlabOverlap overlap_with(const GradInputParams& params, Range slab, int64_t batch,
                                int64_t t) {
  if (params.slabs == 1) return {true, false};
  const TapRange& range = range_of_tile(params, batch, t);
  return {range.first < slab.end && range.last >= slab.begin,
          range.first < slab.begin || range.last >= slab.end};
}

template <typename Tile>
void restrict_to_slab(const GradInputParams& params, Range slab, Tile& tile) {
  restrict_taps(tile, params.slab_axis, slab.begin, slab.end,
                params.grad_input.stride[params.slab_axis]);
}

/// Zeros what the taps of tile number t, or of a strip of it, may lie in.
template <typename Tile>
void zero_ahead(const GradInputParams& params, int64_t batch, int64_t t, const Tile& tile,
                Zeros& zeros) {
  if (params.slabs == 1) {
    zeros.zero_to(tile, params.grad_input);
  } else {
    zeros.zero_to(range_of_tile(params, batch, t).last);
  }
}

/// Of scattered samples, those that may reach into a slab, until there are enough to fill a Tile.
template <typename Tile>
class SlabSamples {
 public:
  SlabSamples(const GradInputParams& params, Range slab) : params_(params), slab_(slab) {}

  /// Samples [first, first + count) of the grid, after those before them; calls full() each time
  /// that there are enough, which has to take() them.
  template <typename F>
  void append(int64_t batch, int64_t first, int count, const F& full) {
    // What `number` can hold.
    if (count_ > 0 && first - first_ >= kMostAhead) full();
    if (count_ == 0) first_ = first;
    alignas(64) PerAxis<Tile::kSize> values;
    load_grid(params_.geometry, params_.grid, batch, first, count, values);
    const int axis = params_.slab_axis;
    fill_axis_taps(axis_taps_, kNoChange, params_.geometry, axis, values[axis], params_.grad_input);
    const auto low = static_cast<offset_t>(slab_.begin * params_.grad_input.stride[axis]);
    const auto high = static_cast<offset_t>(slab_.end * params_.grad_input.stride[axis]);
    Lanes number;
    for (int l = 0; l < kLanes; ++l) number[l] = static_cast<compute_t>(first - first_ + l);
    for (int i = 0; i < count; i += kLanes, number += compute_t(kLanes)) {
      Offsets in_slab{};
      GRIDSAMPLE_UNROLL
      for (int k = 0; k < Tile::kTaps; ++k) {
        const auto offset = load_vector<offset_t, kLanes>(&axis_taps_.offset[k][i]);
        in_slab |= (Offsets)((offset >= low) & (offset < high));
      }
      if (i + kLanes > count) {
        for (int l = count - i; l < kLanes; ++l) in_slab[l] = 0;
      }
      const auto keep = (Lanes) __builtin_convertvector(in_slab, Mask);
      int kept = 0;
      with_dims<Tile::kDims>(params_.geometry.dims, [&]<int kDims>() {
        Lanes found[kDims + 1] = {number};
        compute_t* to[kDims + 1] = {number_ + count_};
        for (int a = 0; a < kDims; ++a) {
          found[a + 1] = load_vector<compute_t, kLanes>(&values[a][i]);
          to[a + 1] = values_[a] + count_;
        }
        kept = compress_lanes<kLanes>(keep, found, to);
      });
      count_ += kept;
      if (count_ >= Tile::kSize) full();
    }
  }

  GRIDSAMPLE_INLINE bool empty() const { return count_ == 0; }

  /// The taps of a Tile's worth of them, or of the rest, and where they are in grad_output.
  void take(Tile& tile, TileOffsets& located) {
    const int count = std::min(count_, Tile::kSize);
    const int rest = count_ - count;
    const int arrays = 1 + params_.geometry.dims;
    Lanes beyond[1 + kMaxDims];
    for (int n = 0; n < arrays; ++n) {
      if (rest > 0) beyond[n] = load_vector<compute_t, kLanes>(array(n) + Tile::kSize);
      std::fill(array(n) + count, array(n) + Tile::kSize, array(n)[count - 1]);
    }
    fill_taps(tile, kNone, params_.geometry, values_, count, params_.grad_input);
    restrict_to_slab(params_, slab_, tile);
    locate_samples(params_.geometry, params_.grad_output, first_, number_, count, located);
    for (int n = 0; n < arrays; ++n) {
      if (rest > 0) store_vector<compute_t, kLanes>(array(n), beyond[n]);
    }
    count_ = rest;
  }

 private:
  static constexpr int kLanes = kFullLanes<compute_t>;
  using Lanes = Vector<compute_t, kLanes>;
  using Offsets = Vector<offset_t, kLanes>;
  using Mask = Vector<std::conditional_t<sizeof(compute_t) == 4, int32_t, int64_t>, kLanes>;
  static constexpr int64_t kMostAhead = int64_t(1) << 23;

  /// The numbers, and the grid values on each axis.
  compute_t* array(int n) { return n == 0 ? number_ : values_[n - 1]; }

  const GradInputParams& params_;
  Range slab_;
  int count_ = 0;
  int64_t first_ = 0;  // numbers are counted from it
  std::remove_reference_t<decltype(Tile::axis[0])> axis_taps_;
  // With room for a whole vector behind the last.
  alignas(64) PerAxis<Tile::kSize + kLanes> values_;
  alignas(64) compute_t number_[Tile::kSize + kLanes];
};

GRIDSAMPLE_NAMESPACE_END
