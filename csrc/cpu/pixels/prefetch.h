#pragma once

// Asking for rows of channels before they are needed.

#include "cpu/taps/tap_tile.h"

GRIDSAMPLE_NAMESPACE_BEGIN

enum class Pass { kForward, kBackward };

/// Smaller images, or groups of images, fit the second-level cache and lose by prefetching.
constexpr int64_t kNearBytes = int64_t(1) << 19;

/// Asks for the rows of a sample before they are needed: where the grid leads is known a tile
/// ahead, but not to the hardware. Images that fit the second-level cache only lose by it.
class RowPrefetch {
 public:
  static constexpr int64_t kLineBytes = 64;

  /// Whether a row of so many bytes is worth asking for: from a line on in the forward pass, from
  /// half a line on in the backward pass, where sums in memory are waited for as well.
  static bool is_long(int64_t row, Pass pass) {
    return row >= (pass == Pass::kForward ? kLineBytes : kLineBytes / 2);
  }
  /// Lines to ask for of a row of so many bytes. Short ones are not worth it, unless samples are
  /// `scattered`.
  static int lines(const Geometry& geometry, int64_t row, Pass pass, bool scattered = false) {
    const bool far = geometry.images_per_group * packed_elements(geometry, row) > kNearBytes;
    if (!far || !(is_long(row, pass) || scattered)) return 0;
    return static_cast<int>(std::min<int64_t>(ceil_div(row, kLineBytes), kMostLines));
  }

  /// Rows of `channels` elements.
  RowPrefetch(const Geometry& geometry, int64_t channels, int64_t element, Pass pass,
              bool scattered = false)
      : lines_(lines(geometry, channels * element, pass, scattered)) {}

  /// Called at sample i, for one a few samples later. The same rows of every image.
  template <typename Tile, typename... Images>
  GRIDSAMPLE_INLINE void operator()(const Tile& tile, int i, const Images*... images) const {
    const int next = i + kDistance;
    if (lines_ == 0 || next >= tile.count || tile.outside[next] < 0) return;
    switch (lines_) {
      case 1:
        return ask<1>(tile, next, images...);
      case 2:
        return ask<2>(tile, next, images...);
      case 3:
        return ask<3>(tile, next, images...);
      default:
        return ask<kMostLines>(tile, next, images...);
    }
  }

 private:
  template <int kLines, typename Tile, typename... Images>
  static GRIDSAMPLE_INLINE void ask(const Tile& tile, int i, const Images*... images) {
    GRIDSAMPLE_KEEP_LOOP
    for (int kz = 0; kz < tile.slices; ++kz) {
      GRIDSAMPLE_KEEP_LOOP
      for (int ky = 0; ky < Tile::kTaps; ++ky) {
        GRIDSAMPLE_UNROLL
        for (int kx = 0; kx < Tile::kTaps; ++kx) {
          const auto offset = plane_offset(tile, kz, ky, kx, i).offset;
          (ask_row<kLines>(images + offset), ...);
        }
      }
    }
  }
  template <int kLines, typename storage_t>
  static GRIDSAMPLE_INLINE void ask_row(const storage_t* row) {
    constexpr int kLine = kLineBytes / static_cast<int>(sizeof(storage_t));
    GRIDSAMPLE_UNROLL
    for (int line = 0; line < kLines; ++line) GRIDSAMPLE_PREFETCH(row + line * kLine);
  }

  static constexpr int kMostLines = 4;  // the hardware follows from there
  static constexpr int kDistance = 8;
  int lines_;
};

/// When ImagePrefetch asks: along tilted rows alone, or always.
enum class Along { kTiltedRows, kAllRows };

/// Asks for images ahead of their samples, as if these went from the first pixel to the last, which
/// those of most grids do more or less. Of images that are read from further away than the
/// second-level cache; of rows, the short ones, which RowPrefetch leaves alone. It gains most where
/// the samples' rows are tilted: along those of the image the hardware looks ahead.
class ImagePrefetch {
 public:
  /// `image`, of elements of so many bytes, as rows of channels or as planes.
  ImagePrefetch(const Geometry& geometry, const View& image, int64_t element, bool rows, Pass pass,
                Along along)
      : geometry_(geometry),
        image_(image),
        element_(element),
        pixels_(packed_elements(geometry, 1)),
        width_(rows ? geometry.channels : 1),
        tilted_alone_(along == Along::kTiltedRows) {
    constexpr int64_t kFarBytes = int64_t(1) << 21;
    constexpr int64_t kMostAhead = int64_t(1) << 18;  // bytes
    const int64_t pixel_bytes = geometry.channels * element;
    int64_t stride = width_;
    bool dense = true;
    for (int a = 0; a < geometry.dims; ++a) {
      dense = dense && image.stride[a] == stride;
      stride *= geometry.input_size[a];
    }
    const int64_t images = image.batch_stride == 0 ? 1 : geometry.batch;
    const bool far = images * pixels_ * pixel_bytes > kFarBytes;
    const bool many_samples = geometry.samples * 2 >= pixels_;
    asks_ = dense && far && many_samples && geometry.images_per_group == 1 &&
            !(rows && RowPrefetch::is_long(pixel_bytes, pass));
    ahead_ = std::min(pixels_ / 8, kMostAhead / pixel_bytes);
  }
  /// A single image is taken to be at hand.
  ImagePrefetch(const Geometry& geometry, const View& image, int64_t element, bool rows, Pass pass)
      : ImagePrefetch(geometry, image, element, rows, pass,
                      geometry.batch == 1 || image.batch_stride == 0 ? Along::kTiltedRows
                                                                     : Along::kAllRows) {}

  /// Called with samples [first, first + count) of an image of the batch; the first `known` of them
  /// begin at these offsets, at least along y.
  GRIDSAMPLE_INLINE void operator()(int64_t batch, int64_t first, int count, Range channels,
                                    const offset_t* offset, int known) const {
    if (!asks_ || (tilted_alone_ && !are_tilted(offset, known))) return;
    ask(batch, first, count, channels);
  }

 private:
  /// Whether so many samples cross some rows of pixels, and not more than themselves.
  GRIDSAMPLE_INLINE bool are_tilted(const offset_t* offset, int count) const {
    constexpr int64_t kLeast = 3;
    const int last = std::min(count, kStripSize) - 1;
    const int64_t across = std::abs(int64_t(offset[last]) - offset[0]);
    return across >= kLeast * image_.stride[1] && across <= last * image_.stride[1];
  }
  GRIDSAMPLE_NOINLINE void ask(int64_t batch, int64_t first, int64_t count, Range channels) const {
    int64_t begin = first * pixels_ / geometry_.samples + ahead_;
    const int64_t end = (first + count) * pixels_ / geometry_.samples + ahead_;
    const int64_t bytes = (end - begin) * width_ * element_;
    if (begin >= pixels_) {  // in the next image
      if (++batch == geometry_.batch) return;
      begin -= pixels_;
    }
    const int64_t offset = batch * image_.batch_stride + begin * width_;
    const int64_t streams = width_ > 1 ? 1 : channels.end - channels.begin;
    for (int64_t c = 0; c < streams; ++c) {
      const auto* from = static_cast<const char*>(image_.data) +
                         (offset + (channels.begin + c) * image_.channel_stride) * element_;
      for (int64_t i = 0; i < bytes; i += RowPrefetch::kLineBytes) {
        GRIDSAMPLE_PREFETCH_FAR(from + i);
      }
    }
  }

  const Geometry& geometry_;
  const View& image_;
  int64_t element_;
  int64_t pixels_;
  int64_t width_;
  int64_t ahead_;  // in pixels
  bool tilted_alone_;
  bool asks_;
};

GRIDSAMPLE_NAMESPACE_END
