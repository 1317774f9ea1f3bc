#pragma once

// From the number of a sample to where it lies in tensors, and to its coordinates: of a grid or of
// a warp. What calls this does not know which.

#include "cuda/device/config.cuh"
#include "cuda/device/params.cuh"

namespace gridsample_ext::cuda {

/// A sample: image, number within the image and, where some view needs it, place along each axis.
struct Sample {
  int64_t batch;
  int64_t number;
  int64_t at[kMaxDims];
};

template <typename number_t>
GRIDSAMPLE_DEVICE void locate(Sample& sample, number_t number, const Walk& walk) {
  const auto per_image = static_cast<number_t>(walk.per_image);
  const number_t batch = number / per_image;
  number -= batch * per_image;
  sample.batch = batch;
  sample.number = number;
  if (walk.linear) return;
  const auto width = static_cast<number_t>(walk.output_size[0]);
  const auto height = static_cast<number_t>(walk.output_size[1]);
  const number_t row = number / width;
  sample.at[0] = number - row * width;
  sample.at[2] = row / height;
  sample.at[1] = row - static_cast<number_t>(sample.at[2]) * height;
}

GRIDSAMPLE_DEVICE Sample locate(int64_t number, const Walk& walk) {
  Sample sample = {};
  if (walk.narrow) {
    locate(sample, static_cast<uint32_t>(number), walk);
  } else {
    locate(sample, static_cast<uint64_t>(number), walk);
  }
  return sample;
}

/// Sample number `number`, for kernels whose configuration may promise a linear and narrow walk.
template <typename Config>
GRIDSAMPLE_DEVICE Sample locate(int64_t number, const Walk& walk) {
  if constexpr (Config::kNarrow) {
    const auto narrow = static_cast<uint32_t>(number);
    const uint32_t batch = walk.divisor.quotient(narrow);
    Sample sample = {};
    sample.batch = batch;
    sample.number = narrow - batch * static_cast<uint32_t>(walk.per_image);
    return sample;
  } else {
    return locate(number, walk);
  }
}

/// The offset of a sample in one channel of one image.
template <int kDims>
GRIDSAMPLE_DEVICE int64_t offset_of(const Sample& sample, const View& view, const Walk& walk) {
  if (walk.linear) return sample.number * view.stride[0];
  int64_t offset = 0;
  GRIDSAMPLE_UNROLL_ALL
  for (int a = 0; a < kDims; ++a) offset += sample.at[a] * view.stride[a];
  return offset;
}

template <typename Config>
GRIDSAMPLE_DEVICE int64_t offset_of(const Sample& sample, const View& view, const Walk& walk) {
  if constexpr (Config::kNarrow) return sample.number * view.stride[0];
  return offset_of<Config::kDims>(sample, view, walk);
}

/// pixel[a]: where in the output, along each axis, a sample is, by its number within its image.
template <int kDims>
GRIDSAMPLE_DEVICE void find_pixel(int64_t number, const int64_t (&size)[kMaxDims],
                                  int64_t (&pixel)[kMaxDims]) {
  auto rest = static_cast<uint64_t>(number);
  GRIDSAMPLE_UNROLL_ALL
  for (int a = 0; a + 1 < kDims; ++a) {
    const uint64_t whole = rest / static_cast<uint64_t>(size[a]);
    pixel[a] = rest - whole * static_cast<uint64_t>(size[a]);
    rest = whole;
  }
  pixel[kDims - 1] = rest;
}
template <typename Config>
GRIDSAMPLE_DEVICE void find_pixel(int64_t number, const Walk& walk, int64_t (&pixel)[kMaxDims]) {
  if constexpr (Config::kNarrow) {
    auto rest = static_cast<uint32_t>(number);
    GRIDSAMPLE_UNROLL_ALL
    for (int a = 0; a + 1 < Config::kDims; ++a) {
      const uint32_t whole = walk.size_divisor[a].quotient(rest);
      pixel[a] = rest - whole * static_cast<uint32_t>(walk.output_size[a]);
      rest = whole;
    }
    pixel[Config::kDims - 1] = rest;
  } else {
    find_pixel<Config::kDims>(number, walk.output_size, pixel);
  }
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
  find_pixel<Config>(sample.number, sampling.walk, pixel);
  const auto* affine = static_cast<const compute_t*>(grid.affine);
  if (affine != nullptr) affine += sample.batch * grid.affine_batch_stride;
  portable::add_warped_place(sampling.places, affine, Config::kDims, pixel, values);
}

}  // namespace gridsample_ext::cuda
