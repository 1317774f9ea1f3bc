// Output of one to four channels: of float32 images in planes, at the points of a contiguous
// float32 grid. A sample is little work then, and what counts is how many bytes are on their way
// and how many instructions a sample takes. So a thread has four samples, whose loads all come
// before their sums, and where all samples of a warp are well inside the image, nothing is done
// about the outside, paddings and what is not a number.

#include <bit>

#include "cuda/device/launch.cuh"
#include "cuda/device/sums.cuh"
#include "cuda/kernels/forward.cuh"
#include "cuda/kernels/kernels.cuh"

namespace gridsample_ext::cuda {
namespace {

constexpr int kMostChannels = 4;
constexpr int kTile = 32;    // samples along x and along y
constexpr int kSamples = 4;  // of a thread, below each other, so that warps have whole rows
constexpr int kRows = kTile / kSamples;
static_assert(kTile == kWarpSize && kTile * kRows == kThreads);

/// From 2^23 on there are only whole numbers: adding rounds the rest away, and leaves the whole
/// number in the low bits. Half as much again takes numbers below 0 and above it, below 2^22.
constexpr float kWhole = 12582912.f;
constexpr uint32_t kWholeBits = 0x4b400000;
constexpr float kWholeLimit = 4194304.f;

/// The taps of a sample that is well inside: the offset of the first and, of bilinear, how far
/// beyond it the sample lies.
struct InsideTaps {
  uint32_t offset;
  float beyond[2];
};

template <typename Config>
GRIDSAMPLE_DEVICE InsideTaps inside_taps(const float (&coordinate)[2], uint32_t row_stride) {
  InsideTaps taps;
  uint32_t index[2];
  GRIDSAMPLE_UNROLL_ALL
  for (int a = 0; a < 2; ++a) {
    const float rounded =
        Config::kCopies ? coordinate[a] + kWhole : __fadd_rd(coordinate[a], kWhole);
    index[a] = __float_as_uint(rounded) - kWholeBits;
    taps.beyond[a] = coordinate[a] - (rounded - kWhole);
  }
  taps.offset = index[1] * row_stride + index[0];
  return taps;
}

template <typename Config>
GRIDSAMPLE_DEVICE float inside_sum(const InsideTaps& taps, const float* plane,
                                   uint32_t row_stride) {
  const float* upper = plane + taps.offset;
  if constexpr (Config::kCopies) {
    return __ldg(upper);
  } else {
    // As weights of all taps and sums over them are made elsewhere.
    const float* lower = plane + (taps.offset + row_stride);
    const float x[] = {1.f - taps.beyond[0], taps.beyond[0]};
    const float y[] = {1.f - taps.beyond[1], taps.beyond[1]};
    const float pixels[] = {__ldg(upper), __ldg(upper + 1), __ldg(lower), __ldg(lower + 1)};
    float sum = 0;
    GRIDSAMPLE_UNROLL_ALL
    for (int tap = 0; tap < 4; ++tap) add_product(sum, y[tap / 2] * x[tap % 2], pixels[tap]);
    return sum;
  }
}

/// In bytes, or compilers put this and the place in the image together, in 64 bits for each place.
GRIDSAMPLE_DEVICE float* image_of(const View& view, int64_t batch) {
  return reinterpret_cast<float*>(static_cast<char*>(view.data) + batch * view.batch_stride * 4);
}

/// Blocks of a multiprocessor that registers leave room for, without spills. Turing has no more.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
template <int kChannels>
constexpr int kBlocks = 4;
#else
template <int kChannels>
constexpr int kBlocks = kChannels < 4 ? 6 : 5;
#endif

template <typename Config, int kChannels>
__global__ void __launch_bounds__(kThreads, kBlocks<kChannels>)
    forward_few_channels_kernel(const FewChannelsParams params) {
  constexpr int kAtOnce = kSamples / kChannels > 0 ? kSamples / kChannels : 1;
  const int64_t batch = blockIdx.z;
  const uint32_t x = blockIdx.x * kTile + threadIdx.x;
  const uint32_t y = blockIdx.y * kTile + threadIdx.y;
  const uint32_t first = x < params.width ? y * params.width + x : params.samples;
  const View& grid = params.sampling.grid;
  const auto* points = reinterpret_cast<const float2*>(image_of(grid, batch));
  const float* image = image_of(params.input, batch);
  float* output = image_of(params.output, batch);
  uint32_t number[kSamples];
  float2 point[kSamples];
  GRIDSAMPLE_UNROLL_ALL
  for (int i = 0; i < kSamples; ++i) {
    // Threads without a sample repeat the last one, and write the same.
    number[i] = min(first + i * kRows * params.width, params.samples - 1);
    point[i] = __ldcs(points + number[i]);
  }
  float coordinate[kSamples][2];
  bool inside = true;
  GRIDSAMPLE_UNROLL_ALL
  for (int i = 0; i < kSamples; ++i) {
    const float value[] = {point[i].x, point[i].y};
    GRIDSAMPLE_UNROLL_ALL
    for (int a = 0; a < 2; ++a) {
      const Axis<float>& axis = params.sampling.axis[a];
      coordinate[i][a] = (value[a] + axis.unit) * axis.scale + axis.origin;
      inside = inside && __float_as_uint(coordinate[i][a]) < params.limit_bits[a];
    }
  }
  if (__all_sync(kWholeWarp, inside)) {
    const auto row_stride = static_cast<uint32_t>(params.input.stride[1]);
    GRIDSAMPLE_UNROLL_ALL
    for (int i = 0; i < kSamples; i += kAtOnce) {
      InsideTaps taps[kAtOnce];
      float sum[kAtOnce][kChannels];
      GRIDSAMPLE_UNROLL_ALL
      for (int j = 0; j < kAtOnce; ++j) {
        taps[j] = inside_taps<Config>(coordinate[i + j], row_stride);
        GRIDSAMPLE_UNROLL_ALL
        for (int c = 0; c < kChannels; ++c) {
          const float* plane = image + c * params.input.channel_stride;
          sum[j][c] = inside_sum<Config>(taps[j], plane, row_stride);
        }
      }
      GRIDSAMPLE_UNROLL_ALL
      for (int j = 0; j < kAtOnce; ++j) {
        GRIDSAMPLE_UNROLL_ALL
        for (int c = 0; c < kChannels; ++c) {
          __stcs(output + c * params.output.channel_stride + number[i + j], sum[j][c]);
        }
      }
    }
    return;
  }
  const OutputPixels<Config> pixels(DType::kFloat);
  GRIDSAMPLE_UNROLL_NONE
  for (int i = 0; i < kSamples; ++i) {
    // Again, since registers cannot be numbered at run time.
    const uint32_t again = min(first + i * kRows * params.width, params.samples - 1);
    const float2 at = __ldg(points + again);
    const float values[] = {at.x, at.y};
    Taps<Config> taps;
    compute_taps(taps, values, params.sampling, params.input);
    const WeightedSum<Taps<Config>> sum(taps);
    GRIDSAMPLE_UNROLL_NONE
    for (int c = 0; c < kChannels; ++c) {
      const float* plane = image + c * params.input.channel_stride;
      float value[1] = {};
      sum([&](int offset, float (&pixel)[1]) { pixels.load(plane + offset, pixel); }, value);
      __stcs(output + c * params.output.channel_stride + again, value[0]);
    }
  }
}

/// Calls function.template operator()<kChannels>().
template <int kChannels = 1, typename F>
void dispatch_channels(int64_t channels, const F& function) {
  if constexpr (kChannels < kMostChannels) {
    if (channels > kChannels) return dispatch_channels<kChannels + 1>(channels, function);
  }
  function.template operator()<kChannels>();
}

/// Samples in a row of tiles: those of the output, or, where many tiles would not be full, a tile's
/// from what is then one row.
int64_t row_of_tiles(const Geometry& geometry) {
  constexpr int64_t kLeastSize = 8 * kTile;
  const int64_t width = geometry.output_size[0];
  return std::min(width, geometry.output_size[1]) >= kLeastSize ? width : kTile;
}

int64_t rows_of_samples(const Geometry& geometry) {
  return ceil_div(geometry.samples, row_of_tiles(geometry));
}

}  // namespace

bool takes_few_channels(const ForwardParams<float>& params, const Geometry& geometry, bool narrow) {
  const GridView& grid = params.sampling.grid;
  const bool dense_grid = !grid.is_warp && grid.dtype == DType::kFloat &&
                          grid.channel_stride == 1 && grid.stride[0] == 2 &&
                          grid.batch_stride % 2 == 0 &&
                          reinterpret_cast<uintptr_t>(grid.data) % sizeof(float2) == 0;
  return narrow && geometry.dims == 2 && portable::taps_per_axis(geometry.mode) <= 2 &&
         geometry.channels <= kMostChannels && params.input.dtype == DType::kFloat &&
         params.input.stride[0] == 1 && params.output.stride[0] == 1 && dense_grid &&
         geometry.batch <= kMostChunks && ceil_div(rows_of_samples(geometry), kTile) <= kMostChunks;
}

void forward_few_channels(const ForwardParams<float>& forward, const Geometry& geometry,
                          const Queue& queue) {
  FewChannelsParams params = {forward, 0, 0, {}};
  params.samples = static_cast<uint32_t>(geometry.samples);
  params.width = static_cast<uint32_t>(row_of_tiles(geometry));
  for (int a = 0; a < 2; ++a) {
    const float last = params.sampling.axis[a].last;
    params.limit_bits[a] = std::bit_cast<uint32_t>(std::min(last, kWholeLimit));
  }
  Spread spread;
  spread.threads = dim3(kTile, kRows);
  spread.tiles = ceil_div(params.width, kTile);
  spread.chunks = ceil_div(rows_of_samples(geometry), kTile);
  spread.images = geometry.batch;
  portable::dispatch_mode(geometry.mode, [&]<Mode kMode>() {
    if constexpr (kTapsPerAxis<kMode> <= 2) {
      dispatch_channels(geometry.channels, [&]<int kChannels>() {
        const auto with = [&]<bool kZeros>() {
          using Config = Config<float, 2, kMode, int32_t, kZeros>;
          launch("forward_few_channels", forward_few_channels_kernel<Config, kChannels>, spread,
                 params, queue);
        };
        if (only_pads_with_zeros(geometry)) return with.template operator()<true>();
        with.template operator()<false>();
      });
    }
  });
}

}  // namespace gridsample_ext::cuda
