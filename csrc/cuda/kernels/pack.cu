// Images from planes of channels to rows of channels, and back. A thread turns four pixels of four
// channels about in registers; a warp has eight such fours of pixels by four of channels, so that
// what it reads and writes is whole sectors on both sides.

#include "cuda/kernels/kernels.cuh"
#include "cuda/device/pixels.cuh"

namespace gridsample_ext::cuda {
namespace {

constexpr int kFour = 4;
constexpr int kMostChannelLanes = 4;

/// Elements side by side, in one access (float64: two).
template <typename T>
struct alignas(sizeof(T) == 8 ? 16 : kFour * sizeof(T)) Four {
  T value[kFour];
};

template <typename to_t, typename from_t>
GRIDSAMPLE_DEVICE to_t convert(from_t value) {
  if constexpr (std::is_same_v<from_t, to_t>) {
    return value;
  } else {
    return narrow<to_t>(value);
  }
}

/// Up to four pixels of a channel.
template <typename T>
GRIDSAMPLE_DEVICE Four<T> load_pixels(const T* from, int64_t stride, int count, bool is_vector) {
  if (is_vector) return *reinterpret_cast<const Four<T>*>(from);
  Four<T> pixels = {};
  GRIDSAMPLE_UNROLL_ALL
  for (int s = 0; s < kFour; ++s) {
    if (s < count) pixels.value[s] = from[s * stride];
  }
  return pixels;
}

template <typename T>
GRIDSAMPLE_DEVICE void store_pixels(T* to, int64_t stride, int count, bool is_vector,
                                    const Four<T>& pixels) {
  if (is_vector) {
    *reinterpret_cast<Four<T>*>(to) = pixels;
    return;
  }
  GRIDSAMPLE_UNROLL_ALL
  for (int s = 0; s < kFour; ++s) {
    if (s < count) to[s * stride] = pixels.value[s];
  }
}

template <typename from_t, typename to_t, bool kFromPlanes>
__global__ void __launch_bounds__(kThreads, 4) transpose_kernel(const PackParams params) {
  const auto* from = static_cast<const from_t*>(params.from);
  auto* to = static_cast<to_t*>(params.to);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int pixel_lanes = kWarpSize / params.channel_lanes;
  const int64_t warps = int64_t(gridDim.x) * (kThreads / kWarpSize);
  const int64_t first = int64_t(blockIdx.x) * (kThreads / kWarpSize) + threadIdx.x / kWarpSize;
  for (int64_t number = first; number < params.tiles; number += warps) {
    const int64_t tile = number / params.channel_tiles;
    const int64_t image = tile / params.pixel_tiles;
    const int64_t channel = kFour * ((number - tile * params.channel_tiles) * params.channel_lanes +
                                     lane % params.channel_lanes);
    const int64_t pixel =
        kFour * ((tile - image * params.pixel_tiles) * pixel_lanes + lane / params.channel_lanes);
    if (channel >= params.channels || pixel >= params.pixels) continue;
    const int64_t left = params.pixels - pixel;
    const int count = left < kFour ? static_cast<int>(left) : kFour;
    const bool is_vector = params.has_vectors && count == kFour;
    const int64_t in_planes = image * params.planes_batch_stride +
                              channel * params.planes_channel_stride + pixel * params.planes_stride;
    const int64_t in_rows = (image * params.pixels + pixel) * params.channels + channel;
    if constexpr (kFromPlanes) {
      Four<from_t> planes[kFour];
      GRIDSAMPLE_UNROLL_ALL
      for (int c = 0; c < kFour; ++c) {
        planes[c] = load_pixels(from + in_planes + c * params.planes_channel_stride,
                                params.planes_stride, count, is_vector);
      }
      GRIDSAMPLE_UNROLL_ALL
      for (int s = 0; s < kFour; ++s) {
        if (s >= count) break;
        Four<to_t> row;
        GRIDSAMPLE_UNROLL_ALL
        for (int c = 0; c < kFour; ++c) row.value[c] = convert<to_t>(planes[c].value[s]);
        *reinterpret_cast<Four<to_t>*>(to + in_rows + s * params.channels) = row;
      }
    } else {
      Four<from_t> rows[kFour] = {};
      GRIDSAMPLE_UNROLL_ALL
      for (int s = 0; s < kFour; ++s) {
        if (s < count) {
          rows[s] = *reinterpret_cast<const Four<from_t>*>(from + in_rows + s * params.channels);
        }
      }
      GRIDSAMPLE_UNROLL_ALL
      for (int c = 0; c < kFour; ++c) {
        Four<to_t> pixels;
        GRIDSAMPLE_UNROLL_ALL
        for (int s = 0; s < kFour; ++s) pixels.value[s] = convert<to_t>(rows[s].value[c]);
        store_pixels(to + in_planes + c * params.planes_channel_stride, params.planes_stride, count,
                     is_vector, pixels);
      }
    }
  }
}

/// Rows of four floats without the last of them, to rows of three or to planes.
template <bool kToRows>
__global__ void __launch_bounds__(kThreads, 4) drop_padding_kernel(const PackParams params) {
  const int64_t step = int64_t(gridDim.x) * kThreads;
  const int64_t first = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  for (int64_t image = blockIdx.y; image < params.batch; image += gridDim.y) {
    const auto* from = static_cast<const float*>(params.from) + image * params.pixels * kFour;
    auto* to = static_cast<float*>(params.to) + image * params.planes_batch_stride;
    if constexpr (kToRows) {
      // Element by element, so that threads side by side write side by side.
      for (int64_t element = first; element < 3 * params.pixels; element += step) {
        to[element] = from[element + element / 3];
      }
    } else {
      for (int64_t pixel = first; pixel < params.pixels; pixel += step) {
        const auto row = reinterpret_cast<const Four<float>*>(from)[pixel];
        GRIDSAMPLE_UNROLL_ALL
        for (int c = 0; c < 3; ++c) to[c * params.planes_channel_stride + pixel] = row.value[c];
      }
    }
  }
}

template <typename from_t, typename to_t, bool kFromPlanes>
void transpose(PackParams params, const Queue& queue) {
  using plane_t = std::conditional_t<kFromPlanes, from_t, to_t>;
  const void* planes = kFromPlanes ? params.from : params.to;
  params.has_vectors = params.planes_stride == 1 && params.planes_channel_stride % kFour == 0 &&
                       params.planes_batch_stride % kFour == 0 &&
                       reinterpret_cast<uintptr_t>(planes) % alignof(Four<plane_t>) == 0;
  const int64_t fours = params.channels / kFour;
  params.channel_lanes = kMostChannelLanes;
  while (params.channel_lanes > fours) params.channel_lanes /= 2;
  params.channel_tiles = ceil_div(fours, params.channel_lanes);
  params.pixel_tiles = ceil_div(params.pixels, kFour * (kWarpSize / params.channel_lanes));
  params.tiles = params.batch * params.pixel_tiles * params.channel_tiles;
  Spread spread;
  spread.tiles = ceil_div(params.tiles, kThreads / kWarpSize);
  launch("transpose", transpose_kernel<from_t, to_t, kFromPlanes>, spread, params, queue);
}

}  // namespace

void pack(const PackParams& params, DType dtype, const Queue& queue) {
  switch (dtype) {
    case DType::kHalf:
    case DType::kBFloat16:  // bits are bits
      return transpose<Half, Half, true>(params, queue);
    case DType::kFloat:
      return transpose<float, float, true>(params, queue);
    default:
      return transpose<double, double, true>(params, queue);
  }
}

void drop_padding(const PackParams& params, const Queue& queue) {
  const bool to_rows = params.planes_channel_stride == 1;
  Spread spread;
  spread.tiles = ceil_div(to_rows ? 3 * params.pixels : params.pixels, kThreads);
  spread.chunks = params.batch;
  launch("drop_padding", to_rows ? drop_padding_kernel<true> : drop_padding_kernel<false>, spread,
         params, queue);
}

void unpack(const PackParams& params, DType dtype, const Queue& queue) {
  switch (dtype) {
    case DType::kHalf:
      return transpose<float, Half, false>(params, queue);
    case DType::kBFloat16:
      return transpose<float, BFloat16, false>(params, queue);
    case DType::kFloat:
      return transpose<float, float, false>(params, queue);
    default:
      return transpose<double, double, false>(params, queue);
  }
}

}  // namespace gridsample_ext::cuda
