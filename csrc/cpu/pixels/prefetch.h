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

  /// Lines to ask for of a row of so many bytes. Short ones are not worth it: below a line in the
  /// forward pass, below half a line in the backward pass, where sums in memory are waited for as
  /// well, unless samples are `scattered`.
  static int lines(const Geometry& geometry, int64_t row, Pass pass, bool scattered = false) {
    const bool far = geometry.group_images * packed_elements(geometry, row) > kNearBytes;
    const bool is_long = row >= (pass == Pass::kForward ? kLineBytes : kLineBytes / 2);
    if (!far || !(is_long || scattered)) return 0;
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

GRIDSAMPLE_NAMESPACE_END
