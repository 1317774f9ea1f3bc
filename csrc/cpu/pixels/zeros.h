#pragma once

// Zeroing grad_input a little ahead of its sums.

#include "cpu/taps/tap_tile.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// The part of a dense grad_input that a work item owns: some channels of one image, or of each of
/// a group of images, at the positions `slab` of an axis. It is zeroed as the taps move on along
/// that axis, by its owner, and so is in the owner's cache when sums are added to it; all at once
/// it would be written to memory and fetched again.
class Zeros {
 public:
  Zeros(const View& view, const Geometry& geometry, int64_t batch, Range channels, int axis,
        Range slab)
      : Zeros(static_cast<compute_t*>(view.data) + batch * view.batch_stride +
                  channels.begin * view.channel_stride,
              geometry, channels.end - channels.begin,
              has_rows(geometry, view) ? geometry.channels : 1, view.channel_stride, axis, slab) {
    images_ = images_of(geometry, batch);
    image_stride_ = view.stride[geometry.dims];
  }

  /// Channels `channels` from `image` on, pixels `pixel_stride` apart (rows), or 1 (planes).
  Zeros(compute_t* image, const Geometry& geometry, int64_t channels, int64_t pixel_stride,
        int64_t channel_stride, int axis, Range slab)
      : image_(image),
        channels_(channels),
        pixel_stride_(pixel_stride),
        channel_stride_(channel_stride),
        axis_(axis),
        size_(geometry.input_size[axis]),
        next_(slab.begin),
        end_(slab.end) {
    for (int a = 0; a < axis; ++a) inner_ *= geometry.input_size[a];
    for (int a = axis + 1; a < geometry.dims; ++a) outer_ *= geometry.input_size[a];
  }

  /// Before anything is added at the taps of a tile, which are offsets into `view`.
  template <typename Tile>
  void zero_to(const Tile& tile, const View& view) {
    if (next_ == end_) return;
    const int64_t last = tap_range(tile.axis[axis_]).last;
    if (last >= 0) zero_to(last / std::max<int64_t>(view.stride[axis_], 1));
  }
  /// Before anything is added at positions up to `last`.
  void zero_to(int64_t last) { zero_until(last + 1); }
  /// What no tap has reached.
  void finish() { zero_until(end_); }

 private:
  static void zero(compute_t* to, int64_t count) {
    constexpr int kLanes = kFullLanes<compute_t>;
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      store_vector<compute_t, kLanes>(to + i, Vector<compute_t, kLanes>{});
      // So that the loop stays a loop. The compiler would make memset of it, whose instruction
      // takes long where memory is new: it is interrupted at each page.
      GRIDSAMPLE_TO_MEMORY(*to);
    }
    std::fill_n(to + i, count - i, compute_t(0));
  }

  void zero_until(int64_t position) {
    position = std::min(position, end_);
    if (position <= next_) return;
    for (int64_t image = 0; image < images_; ++image) {
      zero_in(image_ + image * image_stride_, position);
    }
    next_ = position;
  }
  void zero_in(compute_t* image, int64_t position) const {
    const int64_t run = (position - next_) * inner_;
    for (int64_t o = 0; o < outer_; ++o) {
      const int64_t pixel = (o * size_ + next_) * inner_;
      if (pixel_stride_ == 1) {
        for (int64_t c = 0; c < channels_; ++c) {
          zero(image + c * channel_stride_ + pixel, run);
        }
      } else if (pixel_stride_ == channels_) {
        zero(image + pixel * channels_, run * channels_);
      } else {
        for (int64_t p = pixel; p < pixel + run; ++p) {
          std::fill_n(image + p * pixel_stride_, channels_, compute_t(0));
        }
      }
    }
  }

  compute_t* image_;  // the first
  int64_t images_ = 1;
  int64_t image_stride_ = 0;
  int64_t channels_;
  int64_t pixel_stride_;
  int64_t channel_stride_;
  int axis_;
  int64_t size_;
  int64_t next_;  // the first position not yet zeroed
  int64_t end_;
  int64_t inner_ = 1;  // pixels per position
  int64_t outer_ = 1;
};

GRIDSAMPLE_NAMESPACE_END
