#pragma once

// Between planes of channels and rows of channels: scratch copies of a block of channels of one
// image, in the compute type, pixel after pixel.

#include "cpu/simd/transpose.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// The longest runs of pixels, row-major, that are evenly spaced in a view: `count` runs of
/// `length` pixels `step` apart; at(r) is the offset of a run's first pixel.
struct EvenRuns {
  int64_t length;
  int64_t step;
  int64_t count;
  int64_t inner_count;
  int64_t inner_stride;
  int64_t outer_stride;

  EvenRuns(const View& view, const int64_t (&size)[kMaxDims], int dims) {
    int64_t sizes[kMaxDims] = {size[0], size[1], dims == 3 ? size[2] : 1};
    int64_t strides[kMaxDims] = {view.stride[0], view.stride[1], dims == 3 ? view.stride[2] : 0};
    for (int merged = 0; merged < 2 && strides[1] == sizes[0] * strides[0]; ++merged) {
      sizes[0] *= sizes[1];
      sizes[1] = sizes[2];
      strides[1] = strides[2];
      sizes[2] = 1;
    }
    length = sizes[0];
    step = strides[0];
    inner_count = sizes[1];
    inner_stride = strides[1];
    outer_stride = strides[2];
    count = sizes[1] * sizes[2];
  }
  int64_t at(int64_t run) const {
    return run / inner_count * outer_stride + run % inner_count * inner_stride;
  }
};

/// Part `part` of `parts` of an image's channels [channel, channel + count), as rows of `count`.
template <typename compute_t>
void pack_image(const View& image, const Geometry& geometry, int64_t batch, int64_t channel,
                int count, compute_t* rows, int64_t part = 0, int64_t parts = 1) {
  const EvenRuns runs(image, geometry.input_size, geometry.dims);
  // The part's pixels, which may begin and end within a run.
  const Range pixels = block_range(runs.count * runs.length, parts, part);
  dispatch_dtype(image.dtype, [&]<typename scalar>() {
    const auto* data = static_cast<const typename scalar::storage_t*>(image.data) +
                       batch * image.batch_stride + channel * image.channel_stride;
    for (int64_t pixel = pixels.begin; pixel < pixels.end;) {
      const int64_t run = pixel / runs.length;
      const int64_t skipped = pixel % runs.length;
      const int64_t length = std::min(runs.length - skipped, pixels.end - pixel);
      const auto* source = data + runs.at(run) + skipped * runs.step;
      compute_t* target = rows + pixel * count;
      if (runs.step == 1) {
        transpose_to_rows<scalar>(source, image.channel_stride, count, length, target, count);
      } else {
        for (int64_t p = 0; p < length; ++p) {
          for (int c = 0; c < count; ++c) {
            target[p * count + c] =
                scalar::template load<compute_t>(source[p * runs.step + c * image.channel_stride]);
          }
        }
      }
      pixel += length;
    }
  });
}

/// And back, to an image in its own type.
template <typename compute_t>
void unpack_image(const View& image, const Geometry& geometry, int64_t batch, int count,
                  const compute_t* rows, int64_t part, int64_t parts) {
  const EvenRuns runs(image, geometry.input_size, geometry.dims);
  const Range pixels = block_range(runs.count * runs.length, parts, part);
  dispatch_dtype(image.dtype, [&]<typename scalar>() {
    auto* data = static_cast<typename scalar::storage_t*>(image.data) + batch * image.batch_stride;
    for (int64_t pixel = pixels.begin; pixel < pixels.end;) {
      const int64_t run = pixel / runs.length;
      const int64_t skipped = pixel % runs.length;
      const int64_t length = std::min(runs.length - skipped, pixels.end - pixel);
      auto* target = data + runs.at(run) + skipped * runs.step;
      const compute_t* source = rows + pixel * count;
      if (runs.step == 1) {
        transpose_to_planes<scalar>(source, count, count, length, target, image.channel_stride);
      } else {
        for (int64_t p = 0; p < length; ++p) {
          for (int c = 0; c < count; ++c) {
            target[p * runs.step + c * image.channel_stride] = scalar::store(source[p * count + c]);
          }
        }
      }
      pixel += length;
    }
  });
}

/// A packed image, as a view: rows of `width` channels, of one image.
inline View packed_view(void* rows, const Geometry& geometry, int64_t width) {
  View view;
  view.data = rows;
  view.dtype = geometry.compute_in_double ? DType::kDouble : DType::kFloat;
  view.channel_stride = 1;
  int64_t stride = width;
  for (int a = 0; a < geometry.dims; ++a) {
    view.stride[a] = stride;
    stride *= geometry.input_size[a];
  }
  return view;
}

/// Channels [channel, channel + count) of the samples of a tile, as rows of `width`.
template <typename compute_t>
void load_rows(const View& view, int64_t batch, int64_t channel, int count, const TileOffsets& tile,
               compute_t* rows, int64_t width) {
  dispatch_dtype(view.dtype, [&]<typename scalar>() {
    const auto* data = static_cast<const typename scalar::storage_t*>(view.data) +
                       batch * view.batch_stride + channel * view.channel_stride;
    if (view.channel_stride == 1) {
      for (int i = 0; i < tile.count; ++i) {
        const auto* row = data + tile.at(i);
#pragma omp simd
        for (int c = 0; c < count; ++c)
          rows[i * width + c] = scalar::template load<compute_t>(row[c]);
      }
    } else if (tile.even && tile.step == 1) {
      transpose_to_rows<scalar>(data + tile.first, view.channel_stride, count, tile.count, rows,
                                width);
    } else {
      for (int c = 0; c < count; ++c) {
        const auto* plane = data + c * view.channel_stride;
        for (int i = 0; i < tile.count; ++i) {
          rows[i * width + c] = scalar::template load<compute_t>(plane[tile.at(i)]);
        }
      }
    }
  });
}

/// Writes samples [begin, end) of a tile, given as rows of `width` channels from `channel` on.
template <typename compute_t>
void store_rows(const View& view, int64_t batch, int64_t channel, int count,
                const TileOffsets& tile, int begin, int end, const compute_t* rows, int64_t width) {
  dispatch_dtype(view.dtype, [&]<typename scalar>() {
    auto* data = static_cast<typename scalar::storage_t*>(view.data) + batch * view.batch_stride +
                 channel * view.channel_stride;
    if (tile.even && tile.step == 1) {
      transpose_to_planes<scalar>(rows, width, count, end - begin, data + tile.first + begin,
                                  view.channel_stride);
    } else if (view.channel_stride == 1) {
      for (int i = begin; i < end; ++i) {
        auto* row = data + tile.at(i);
        const compute_t* from = rows + (i - begin) * width;
#pragma omp simd
        for (int c = 0; c < count; ++c) row[c] = scalar::store(from[c]);
      }
    } else {
      for (int i = begin; i < end; ++i) {
        for (int c = 0; c < count; ++c) {
          data[tile.at(i) + c * view.channel_stride] = scalar::store(rows[(i - begin) * width + c]);
        }
      }
    }
  });
}

GRIDSAMPLE_NAMESPACE_END
