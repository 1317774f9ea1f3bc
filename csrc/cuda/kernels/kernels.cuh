#pragma once

// The kernels as the host code sees them: each function picks a kernel and launches it.
//
// Includes point one way: host/ (tensors, C++) -> kernels/ -> device/ (what kernels share) ->
// math/.

#include "cuda/device/launch.cuh"
#include "cuda/device/params.cuh"

namespace gridsample_ext::cuda {

/// narrow: see is_narrow in describe.h.
template <typename compute_t>
void forward_planes(ForwardParams<compute_t> params, const Geometry& geometry, bool narrow,
                    const Queue& queue);

/// What forward_few_channels is for: float32 images in planes of one to four channels, sampled
/// bilinearly or nearest at the points of a contiguous float32 grid.
bool takes_few_channels(const ForwardParams<float>& params, const Geometry& geometry, bool narrow);
void forward_few_channels(const ForwardParams<float>& params, const Geometry& geometry,
                          const Queue& queue);

/// How many channels a thread of forward_rows has: 16 bytes of pixels.
template <typename pixel_t>
constexpr int kForwardVector = 16 / sizeof(pixel_t);

/// Of images whose channels are innermost: strides and addresses of input and output have to be
/// multiples of 16 bytes, and so has a row of channels.
template <typename compute_t>
void forward_rows(ForwardParams<compute_t> params, const Geometry& geometry, bool narrow,
                  const Queue& queue);

/// Adds to grad_input, which has to be zero before, and writes grad_grid.
template <typename compute_t>
void backward_planes(BackwardParams<compute_t> params, const Geometry& geometry, bool narrow,
                     const Queue& queue);

/// How many channels a thread of backward_rows has: 16 bytes of sums.
template <typename compute_t>
constexpr int kBackwardVector = 16 / sizeof(compute_t);

/// Both gradients of images whose channels are innermost: strides, addresses and rows have to be
/// multiples of kBackwardVector elements.
template <typename compute_t>
void backward_rows(BackwardParams<compute_t> params, const Geometry& geometry, bool narrow,
                   const Queue& queue);

/// Both gradients of float32 images of three channels, for up to 16 taps and offsets of 32 bits, to
/// grad_input in rows of four, the last of which is padding, or in planes. The pixels of input
/// follow each other at input.stride[0].
void backward_three_channels(const BackwardParams<float>& params, const Geometry& geometry,
                             const Queue& queue);

/// From rows of four channels to three channels without the padding, in rows or in planes.
void drop_padding(const PackParams& params, const Queue& queue);

/// From planes to rows; elements of any type are copied. Channels are whole fours, and rows aligned
/// to them, or to 16 bytes.
void pack(const PackParams& params, DType dtype, const Queue& queue);

/// From rows of sums, in the compute type of dtype, to planes of dtype.
void unpack(const PackParams& params, DType dtype, const Queue& queue);

/// Of bilinear and bicubic: the derivative of the output.
template <typename compute_t>
void jvp(JvpParams<compute_t> params, const Geometry& geometry, bool narrow, const Queue& queue);

/// Of bilinear and bicubic, along grad_grad_grid: adds to grad_input, which has to be zero before,
/// and writes grad_grid.
template <typename compute_t>
void double_backward(BackwardParams<compute_t> params, const Geometry& geometry, bool narrow,
                     const Queue& queue);

/// The output, or where grad_grid has data that, for the samples that read values of their own
/// outside the image; along tangent_grid, if there is one, its derivative.
template <typename compute_t>
void finish(const FinishParams<compute_t>& params, const Geometry& geometry, const Queue& queue);

/// The gradient of a warp's affine map, of sums over samples in an order that does not change.
template <typename compute_t>
void affine_sums(const AffineSumsParams<compute_t>& params, int dims, const Queue& queue);

/// Output of nearest for images of integers or bools.
template <typename compute_t>
void copy_nearest(const CopyParams<compute_t>& params, const Geometry& geometry,
                  const Queue& queue);

/// See schemas.h.
template <typename compute_t>
void sample_labels(const LabelParams<compute_t>& params, const Geometry& geometry,
                   const Queue& queue);

/// Lines along one axis, computed in compute_t.
template <typename compute_t>
void filter_splines(const SplineParams& params, const Queue& queue);

/// grad_input, bit by bit the same whatever the order in which samples are taken; that of the
/// double backward pass along grad_grad_grid, if there is one.
template <typename compute_t>
void grad_input_in_fixed_point(FixedPointParams<compute_t> params, const Geometry& geometry,
                               const Queue& queue);

}  // namespace gridsample_ext::cuda
