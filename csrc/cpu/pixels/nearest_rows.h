#pragma once

// Nearest, lanes over channels: a sample's pixel is a row of channels, copied or added to as it is.

#include "cpu/pixels/nearest.h"
#include "cpu/pixels/pack.h"
#include "cpu/pixels/rows.h"
#include "cpu/pixels/zeros.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Calls function(channels), for lengths that are usual with a number known to the compiler.
template <typename F>
GRIDSAMPLE_INLINE void with_usual_length(int64_t channels, const F& function) {
  switch (channels) {
    case 2:
      return function(std::integral_constant<int64_t, 2>{});
    case 3:
      return function(std::integral_constant<int64_t, 3>{});
    case 4:
      return function(std::integral_constant<int64_t, 4>{});
    case 8:
      return function(std::integral_constant<int64_t, 8>{});
    case 16:
      return function(std::integral_constant<int64_t, 16>{});
    case 32:
      return function(std::integral_constant<int64_t, 32>{});
    case 64:
      return function(std::integral_constant<int64_t, 64>{});
    default:
      return function(channels);
  }
}

/// Where the pixels of a tile's samples are, kOutside for those without one.
class RowFinder {
 public:
  /// Of `image`, rows of `channels` elements: those at the positions `slab` of an axis.
  RowFinder(const Geometry& geometry, const View& image, int slab_axis, Range slab,
            int64_t channels, int64_t element, Pass pass)
      : geometry_(geometry),
        image_(image),
        finder_(geometry, image, slab_axis, slab),
        lines_(RowPrefetch::lines(geometry, channels * element, pass)) {}

  /// The samples of tile t of a grid.
  void find(const GridView& grid, int64_t batch, int64_t t) {
    count_ = tile_samples(geometry_, batch, t * kTileSize);
    finder_.find(grid, batch, t, offset_);
    last_ = last_pixel(geometry_, image_, batch);
    // Looked at beyond the last sample, and not asked for.
    std::fill_n(offset_ + count_, kAhead, offset_t(kOutside));
  }
  GRIDSAMPLE_INLINE int count() const { return count_; }
  GRIDSAMPLE_INLINE const offset_t* offsets() const { return offset_; }
  /// The greatest; negative if no sample has a pixel.
  offset_t farthest() const {
    offset_t most = kOutside;
#pragma omp simd reduction(max : most)
    for (int i = 0; i < kTileSize; ++i) most = offset_[i] > most ? offset_[i] : most;
    return most;
  }
  /// As of the taps of a tile.
  bool can_read_on() const { return farthest() < last_; }
  /// Calls function(i, offset) for every sample, and asks for the rows of `image` that are needed a
  /// few samples later.
  template <typename T, typename F>
  GRIDSAMPLE_INLINE void for_each(const T* image, const F& function) const {
    // Locals, which what the function writes cannot change.
    const offset_t* offset = offset_;
    const int count = count_;
    const int lines = lines_;
    for (int i = 0; i < count; ++i) {
      if (lines > 0 && offset[i + kAhead] >= 0) ask(image + offset[i + kAhead], lines);
      function(i, offset[i]);
    }
  }

 private:
  template <typename T>
  static GRIDSAMPLE_INLINE void ask(const T* row, int lines) {
    constexpr int64_t kLine = RowPrefetch::kLineBytes / static_cast<int64_t>(sizeof(T));
    GRIDSAMPLE_PREFETCH(row);
    if (lines > 1) GRIDSAMPLE_PREFETCH(row + kLine);
    if (lines > 2) GRIDSAMPLE_PREFETCH(row + 2 * kLine);
    if (lines > 3) GRIDSAMPLE_PREFETCH(row + 3 * kLine);
  }

  static constexpr int kAhead = 8;
  const Geometry& geometry_;
  const View& image_;
  PixelFinder finder_;
  int count_ = 0;
  int64_t last_ = 0;
  int lines_;
  alignas(64) offset_t offset_[kTileSize + kAhead];
};

/// to(i) = pixel i of an image, for rows of `channels`; zeros for samples without a pixel.
template <typename storage_t, typename To>
void copy_rows(const RowFinder& pixels, const storage_t* image, int64_t channels, const To& to) {
  const int last = pixels.count() - 1;
  storage_t* first_row = to(0);
  if (channels == 3 && to(last) == first_row + 3 * last && pixels.can_read_on()) {
    // As rows of four; the next row is written over what is too much.
    pixels.for_each(image, [&](int i, auto offset) {
      Vector<storage_t, 4> pixel{};
      if (offset >= 0) pixel = load_vector<storage_t, 4>(image + offset);
      if (i < last) return store_vector<storage_t, 4>(first_row + 3 * i, pixel);
      std::memcpy(first_row + 3 * i, &pixel, 3 * sizeof(storage_t));
    });
    return;
  }
  with_usual_length(channels, [&](auto length) {
    const size_t bytes = static_cast<size_t>(static_cast<int64_t>(length)) * sizeof(storage_t);
    pixels.for_each(image, [&](int i, auto offset) {
      if (offset < 0) {
        std::memset(to(i), 0, bytes);
      } else {
        std::memcpy(to(i), image + offset, bytes);
      }
    });
  });
}

/// Pixels of `image` += rows of grad_output from `channel` on, `channels` long.
inline void add_to_rows(const RowFinder& pixels, const View& grad_output, int64_t batch,
                        const TileOffsets& located, int64_t channel, int64_t channels,
                        compute_t* image) {
  alignas(64) compute_t staged[kTileSize * kMostPieceChannels];
  const bool in_place =
      grad_output.channel_stride == 1 && grad_output.dtype == kDTypeOf<compute_t> && located.even;
  const auto add = [&](const compute_t* grad, int64_t step, int64_t first, int64_t count) {
    with_usual_length(count, [&](auto length) {
      pixels.for_each(image + first, [&](int i, auto offset) {
        if (offset < 0) return;
        compute_t* row = image + first + offset;
        const compute_t* from = grad + i * step;
        for_channel_vectors<compute_t>(
            0, length, [&]<int kLanes, int kUnits, int kLeft>(int64_t c) {
              using scalar = ScalarOf<compute_t>;
              GRIDSAMPLE_UNROLL
              for (int u = 0; u < kUnits; ++u, c += kLanes) {
                const auto sum = load_row_lanes<scalar, compute_t, kLanes, kLeft>(row + c) +
                                 load_row_lanes<scalar, compute_t, kLanes, kLeft>(from + c);
                if constexpr (kLeft > 0) {
                  store_first_lanes<scalar, compute_t, kLeft>(row + c, sum);
                } else {
                  store_vector<compute_t, kLanes>(row + c, sum);
                }
              }
            });
      });
    });
  };
  if (in_place) {
    const auto* grad = static_cast<const compute_t*>(grad_output.data) +
                       batch * grad_output.batch_stride + located.first + channel;
    return add(grad, located.step, 0, channels);
  }
  for (int64_t c = 0; c < channels; c += kMostPieceChannels) {
    const int64_t count = std::min(kMostPieceChannels, channels - c);
    load_rows(grad_output, batch, channel + c, static_cast<int>(count), located, staged, count);
    add(staged, count, c, count);
  }
}

/// grad_input += grad_output for `channels` of one image of the batch. `image` holds rows of these
/// channels, addressed by `view`; the positions `slab` of an axis are owned, and zeroed ahead.
/// Tiles of which reaches(t) is false are passed over.
template <typename F>
void add_nearest_rows(const Geometry& geometry, const GridView& grid, const View& grad_output,
                      int64_t batch, Range channels, const View& view, int slab_axis, Range slab,
                      compute_t* image, Zeros& zeros, const F& reaches) {
  const int64_t count = channels.end - channels.begin;
  RowFinder pixels(geometry, view, slab_axis, slab, count, sizeof(*image), Pass::kBackward);
  TileOffsets located;
  const bool is_outermost = slab_axis == geometry.dims - 1;
  if (!is_outermost) zeros.finish();
  for (int64_t t = 0; t < tile_count(geometry); ++t) {
    if (!reaches(t)) continue;
    pixels.find(grid, batch, t);
    const auto farthest = pixels.farthest();
    if (farthest < 0) continue;
    if (is_outermost) zeros.zero_to(farthest / view.stride[slab_axis]);
    locate_samples(geometry, grad_output, t * kTileSize, pixels.count(), located);
    add_to_rows(pixels, grad_output, batch, located, channels.begin, count, image);
  }
}

GRIDSAMPLE_NAMESPACE_END
