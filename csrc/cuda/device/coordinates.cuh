#pragma once

// The coordinates of samples, of a grid or of a warp. What calls this does not know which.

#include "cuda/device/pixels.cuh"
#include "cuda/device/walk.cuh"

namespace gridsample_ext::cuda {

/// pixel[a]: where in the output, along each axis, a sample is, by its number within its image.
template <int kDims>
GRIDSAMPLE_DEVICE void find_pixel(int64_t number, const int64_t (&size)[kMaxDims],
                                  int64_t (&pixel)[kMaxDims]) {
  const auto divide = [&](auto rest) {
    using number_t = decltype(rest);
    GRIDSAMPLE_UNROLL_ALL
    for (int a = 0; a < kDims; ++a) {
      const number_t whole = rest / static_cast<number_t>(size[a]);
      pixel[a] = rest - whole * static_cast<number_t>(size[a]);
      rest = whole;
    }
  };
  if (number <= 0x7fffffff) return divide(static_cast<uint32_t>(number));
  divide(static_cast<uint64_t>(number));
}

/// The coordinates of a sample, as a grid has them.
template <typename Config, typename compute_t>
GRIDSAMPLE_DEVICE void load_point(compute_t (&values)[Config::kDims], const Sample& sample,
                                  const Sampling<compute_t>& sampling) {
  const GridView& grid = sampling.grid;
  load_as(values, grid.data, grid.dtype,
          sample.batch * grid.batch_stride + offset_of<Config>(sample, grid, sampling.walk),
          grid.channel_stride);
  if (!grid.is_warp) return;
  int64_t pixel[kMaxDims];
  find_pixel<Config::kDims>(sample.number, sampling.walk.output_size, pixel);
  const auto* affine = static_cast<const compute_t*>(grid.affine);
  if (affine != nullptr) affine += sample.batch * grid.affine_batch_stride;
  portable::add_warped_place(sampling.places, affine, Config::kDims, pixel, values);
}

}  // namespace gridsample_ext::cuda
