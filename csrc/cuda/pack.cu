// Images from planes of channels to rows of channels, and back: a block takes a tile of pixels and
// channels through shared memory, so that it reads and writes side by side on both sides.

#include "kernels.cuh"
#include "pixels.cuh"

namespace gridsample_ext::cuda {
namespace {

constexpr int kEach = 8;  // elements of a thread, read before the first is written
constexpr int kTileElements = kThreads * kEach;
constexpr int kMostTileChannels = 32;

template <typename to_t, typename from_t>
GRIDSAMPLE_DEVICE to_t convert(from_t value) {
  if constexpr (std::is_same_v<from_t, to_t>) {
    return value;
  } else {
    return Narrow<to_t>::from(value);
  }
}

/// A thread's elements of a tile, in the order of planes or in that of rows: all at one place along
/// what is innermost in memory, in equal steps along the other.
struct Share {
  int64_t offset;  // in the image
  int64_t step;
  int place;  // in shared memory
  int place_step;
  int count;  // as far as the image goes
};

GRIDSAMPLE_DEVICE Share share_of(bool planes, const PackParams& params, int64_t image,
                                 int64_t pixel, int64_t channel) {
  const int tile_channels = params.tile_channels;
  const int tile_pixels = kTileElements / tile_channels;
  const int pitch = tile_channels + 1;  // so that banks do not conflict
  const int inner = planes ? tile_pixels : tile_channels;
  const int thread = static_cast<int>(threadIdx.x);
  const int slow = thread / inner;
  const int fast = thread - slow * inner;
  const int step = kThreads / inner;
  pixel += planes ? fast : slow;
  channel += planes ? slow : fast;
  Share share;
  if (planes) {
    share.offset = image * params.planes_batch_stride + channel * params.planes_channel_stride +
                   pixel * params.planes_stride;
    share.step = step * params.planes_channel_stride;
    share.place = fast * pitch + slow;
    share.place_step = step;
  } else {
    share.offset = (image * params.pixels + pixel) * params.channels + channel;
    share.step = step * params.channels;
    share.place = slow * pitch + fast;
    share.place_step = step * pitch;
  }
  const bool inside = pixel < params.pixels && channel < params.channels;
  const int64_t left = planes ? params.channels - channel : params.pixels - pixel;
  const int64_t count = inside ? (left + step - 1) / step : 0;
  share.count = count < kEach ? static_cast<int>(count) : kEach;
  return share;
}

template <typename from_t, typename to_t, bool kFromPlanes>
__global__ void __launch_bounds__(kThreads, 3) transpose_kernel(const PackParams params) {
  auto* tile = static_cast<to_t*>(shared_memory());
  const auto* from = static_cast<const from_t*>(params.from);
  auto* to = static_cast<to_t*>(params.to);
  const int tile_pixels = kTileElements / params.tile_channels;
  for (int64_t number = blockIdx.x; number < params.batch * params.tiles; number += gridDim.x) {
    const int64_t image = number / params.tiles;
    const int64_t pixel = (number - image * params.tiles) * tile_pixels;
    for (int64_t channel = int64_t(blockIdx.y) * params.tile_channels; channel < params.channels;
         channel += int64_t(gridDim.y) * params.tile_channels) {
      const Share read = share_of(kFromPlanes, params, image, pixel, channel);
      from_t values[kEach];
      GRIDSAMPLE_UNROLL_ALL
      for (int i = 0; i < kEach; ++i) {
        if (i < read.count) values[i] = from[read.offset + i * read.step];
      }
      GRIDSAMPLE_UNROLL_ALL
      for (int i = 0; i < kEach; ++i) {
        if (i < read.count) tile[read.place + i * read.place_step] = convert<to_t>(values[i]);
      }
      __syncthreads();
      const Share written = share_of(!kFromPlanes, params, image, pixel, channel);
      GRIDSAMPLE_UNROLL_ALL
      for (int i = 0; i < kEach; ++i) {
        if (i < written.count) {
          to[written.offset + i * written.step] = tile[written.place + i * written.place_step];
        }
      }
      __syncthreads();  // before the next tile replaces this one
    }
  }
}

template <typename from_t, typename to_t, bool kFromPlanes>
void transpose(PackParams params, const Queue& queue) {
  // At least as many as a thread has elements: see share_of.
  params.tile_channels = kMostTileChannels;
  while (params.tile_channels > kEach && params.tile_channels / 2 >= params.channels) {
    params.tile_channels /= 2;
  }
  params.tiles = ceil_div(params.pixels, kTileElements / params.tile_channels);
  Spread spread;
  spread.tiles = params.batch * params.tiles;
  spread.chunks = ceil_div(params.channels, params.tile_channels);
  spread.shared_bytes =
      sizeof(to_t) * (kTileElements / params.tile_channels) * (params.tile_channels + 1);
  launch(transpose_kernel<from_t, to_t, kFromPlanes>, spread, params, queue);
}

}  // namespace

void pack(const PackParams& params, DType dtype, const Queue& queue) {
  switch (dtype) {
    case DType::kHalf:
    case DType::kBFloat16:  // bits are bits
      return transpose<Half, Half, true>(params, queue);
    case DType::kFloat:
      return transpose<float, float, true>(params, queue);
    case DType::kDouble:
      return transpose<double, double, true>(params, queue);
  }
}

void unpack(const PackParams& params, DType dtype, const Queue& queue) {
  switch (dtype) {
    case DType::kHalf:
      return transpose<float, Half, false>(params, queue);
    case DType::kBFloat16:
      return transpose<float, BFloat16, false>(params, queue);
    case DType::kFloat:
      return transpose<float, float, false>(params, queue);
    case DType::kDouble:
      return transpose<double, double, false>(params, queue);
  }
}

}  // namespace gridsample_ext::cuda
