#pragma once

// What the kernels are told: one plain struct each, passed by value.

#include "math/coordinates.h"
#include "math/labels.h"
#include "math/warps.h"
#include "params.h"

namespace gridsample_ext::cuda {

using portable::Axis;
using portable::Places;

/// Division of numbers below 2^31 by one that is known when kernels are launched: by multiplication
/// (Granlund and Montgomery, 1994).
struct Divisor {
  uint32_t factor = 1;
  int shift = 0;

  Divisor() = default;
  explicit Divisor(int64_t divisor) {
    while ((int64_t(1) << shift) < divisor) ++shift;
    const auto rest = static_cast<uint64_t>((int64_t(1) << shift) - divisor);
    factor = static_cast<uint32_t>((rest << 32) / static_cast<uint64_t>(divisor) + 1);
  }

  GRIDSAMPLE_INLINE uint32_t quotient(uint32_t number) const {
    const auto high = static_cast<uint32_t>((uint64_t(number) * factor) >> 32);
    return (high + number) >> shift;
  }
};

/// The samples a kernel walks over: `batch` images of `per_image` samples, numbered from 0 to
/// `total`, x fastest.
struct Walk {
  int64_t batch;
  int64_t per_image;
  int64_t total;
  int64_t output_size[kMaxDims];
  // The number of a sample within its image times stride[0] of a view is its offset: all views that
  // samples are looked up in have strides that allow it, and no division by sizes is needed.
  bool linear;
  bool narrow;      // total fits 31 bits, so 32-bit divisions do
  Divisor divisor;  // where it does: per_image, and output_size along x and y
  Divisor size_divisor[2];
};

/// Where the samples lie, and what their taps are computed from.
template <typename compute_t>
struct Sampling {
  Walk walk;
  GridView grid;
  Places<compute_t> places[kMaxDims];  // of a warp
  Axis<compute_t> axis[kMaxDims];
  int64_t input_size[kMaxDims];
  Padding padding[kMaxDims];
  bool excludes_off_image;  // samples that do not lie on a pixel have no taps
};

template <typename compute_t>
struct ForwardParams {
  Sampling<compute_t> sampling;
  View input;
  View output;
  int64_t channels;
  int64_t chunk_channels;  // of a block; blockIdx.y tells which
  // Kernels for rows of channels.
  int64_t tiles;
  int tile;   // samples whose taps are in shared memory at a time
  int lanes;  // threads that share the channels of a sample
};

/// Of forward_few_channels.
struct FewChannelsParams : ForwardParams<float> {
  uint32_t samples;  // of an image
  uint32_t width;    // samples that follow each other; such rows lie below each other in a tile
  // At coordinates from 0 on and below a limit all taps are inside and no padding changes anything;
  // reflection neither, as the distance from the fold is exact from 0 on, and so is adding the fold
  // to it. The bits of floats from 0 on are in their order, and those of all others above them.
  uint32_t limit_bits[2];
};

/// Of input and tangent_input in one type.
template <typename compute_t>
struct JvpParams {
  Sampling<compute_t> sampling;
  View input;
  View tangent_input;  // data is null where it is zero; else strides along the axes are input's
  View tangent_grid;
  View output;
  int64_t channels;
  int lanes;  // threads that share the channels of a sample
};

/// Of grad_output, input and grad_grad_input in one type. grad_input.data or grad_grid.data is null
/// where that gradient is not wanted.
template <typename compute_t>
struct BackwardParams {
  // Where grad_grid of a broadcast grid is wanted, over its batch of one: each sample is used for
  // `images` images.
  Sampling<compute_t> sampling;
  View grad_output;
  View input;
  View grad_input;  // of compute_t
  View grad_grid;
  // The backward pass has neither; the double backward pass the second, and the first where
  // grad_grid is wanted and it is not zero, with input's strides along the axes.
  View grad_grad_input;
  View grad_grad_grid;
  int64_t images;
  int64_t channels;
  bool rows_of_four;  // grad_input of backward_three_channels; else planes
  // As in ForwardParams.
  int64_t tiles;
  int tile;
  int lanes;
};

/// Of a warp whose gradients by coordinates are in grad_grid, of compute_t. Samples of an image are
/// divided into so many chunks.
template <typename compute_t>
struct AffineSumsParams {
  View grad_grid;
  Places<compute_t> places[kMaxDims];
  int64_t output_size[kMaxDims];
  int64_t samples;
  int64_t images;
  int64_t chunks;
  int64_t maps;     // 1, or as many as images
  double* partial;  // for each image and chunk as many numbers as a map has
  double* total;    // for each map
};

/// Of tensors in any types and layouts; tangent_input with input's strides along the axes.
template <typename compute_t>
struct FinishParams {
  Sampling<compute_t> sampling;  // of the output over the whole batch, of grad_grid over the grids
  View input;
  View tangent_input;  // data is null where it is zero
  View tangent_grid;   // data is null where the grid does not move
  View grad_output;
  View output;
  View grad_grid;  // data is null where the output is wanted
  int64_t images;  // for which each sample of the grids is used
  int64_t channels;
  compute_t fill_value;
  compute_t outside_value;
};

/// Of an image of integers or bools.
template <typename compute_t>
struct CopyParams {
  Sampling<compute_t> sampling;
  View input;
  View output;
  int64_t channels;
  Element fill_value;
  Element outside_value;
};

template <typename compute_t>
struct LabelParams {
  Sampling<compute_t> sampling;
  View labels;
  View output;
  LabelType type;
  int64_t channels;
  bool fills;
  int64_t fill_value;  // in order, as labels are loaded
  int64_t outside_value;
};

/// Images in planes, one of channels each, and the same in dense rows of channels, pixel by pixel.
struct PackParams {
  const void* from;
  void* to;
  int64_t batch;
  int64_t channels;
  int64_t pixels;
  int64_t planes_batch_stride;
  int64_t planes_channel_stride;
  int64_t planes_stride;  // from pixel to pixel
  bool has_vectors;       // four pixels of a plane are a vector
  int channel_lanes;      // of a warp; the others are over pixels
  int64_t channel_tiles;  // of a pixel: what warps take
  int64_t pixel_tiles;    // of an image
  int64_t tiles;          // of all
};

/// Sums that come out the same in whatever order they are made: see fixed_point.cu.
template <typename compute_t>
struct FixedPointParams {
  Sampling<compute_t> sampling;  // over the whole batch
  View grad_output;
  View grad_input;      // strides of the sums; no data
  View grad_grad_grid;  // of the double backward pass
  int dims;
  int64_t channels;
  int64_t chunk_channels;    // of a thread
  int lanes;                 // threads that share these, where channels are innermost
  int64_t elements;          // of grad_input
  int64_t image_elements;    // of those that share a unit: of an image
  unsigned long long* sums;  // `elements` of them; float64: and as many for the lower part
  unsigned* specials;        // a byte for each element
  unsigned* exponents;       // of what is added to each image of grad_input: see fixed_point.cu
  void* result;
  DType result_dtype;
};

}  // namespace gridsample_ext::cuda
