// Both gradients of images of three channels. Atomic additions to single channels, of which a pixel
// has three for each tap, are what limits them. So grad_input is summed where additions are fewest:
// in rows of four, one addition for a tap, where the device adds vectors, else in planes, whose
// sectors neighbouring samples share. A thread has a sample. Pixels are numbered, and their numbers
// times a stride are their offsets in input and in the sums.

#include "cuda/device/config.cuh"
#include "cuda/device/launch.cuh"
#include "cuda/device/scatter.cuh"
#include "cuda/device/sums.cuh"
#include "cuda/kernels/kernels.cuh"

namespace gridsample_ext::cuda {
namespace {

constexpr int kChannels = 3;

/// Adds to the sums of one pixel.
GRIDSAMPLE_DEVICE void add_pixel(const BackwardParams<float>& params, float* image, int number,
                                 const float (&values)[kChannels]) {
  if (params.rows_of_four) {
    float* to = image + int64_t(number) * 4;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
    GRIDSAMPLE_UNROLL_ALL
    for (int c = 0; c < kChannels; ++c) atomicAdd(to + c, values[c]);
#else
    add_row(to, {values[0], values[1], values[2], 0.f});
#endif
  } else {
    GRIDSAMPLE_UNROLL_ALL
    for (int c = 0; c < kChannels; ++c)
      atomicAdd(image + c * params.grad_input.channel_stride + number, values[c]);
  }
}

/// Whether all taps of the warp are inside the image.
template <typename Config>
GRIDSAMPLE_DEVICE bool are_inside(const Taps<Config>& taps) {
  bool inside = true;
  GRIDSAMPLE_UNROLL_ALL
  for (int a = 0; a < Config::kDims; ++a) {
    GRIDSAMPLE_UNROLL_ALL
    for (int k = 0; k < Config::kTaps; ++k) inside = inside && taps.offset[a][k] >= 0;
  }
  return __all_sync(kWholeWarp, inside);
}

/// Negative outside the image, where taps may be anywhere.
template <bool kAnywhere, typename Config>
GRIDSAMPLE_DEVICE int number_of_pixel(const Taps<Config>& taps, int z, int y, int x) {
  if constexpr (kAnywhere) return offset_of_tap(taps, z, y, x);
  const int row = taps.offset[1][y] + taps.offset[0][x];
  return Config::kDims == 3 ? taps.offset[Config::kDims - 1][z] + row : row;
}

/// Blocks of a multiprocessor that registers leave room for, without spills.
template <typename Config>
constexpr int kBlocks = Config::kAllTaps > 8   ? 2
                        : Config::kAllTaps > 4 ? 3
                                               : 4;

template <typename Config>
__global__ void __launch_bounds__(kThreads, kBlocks<Config>)
    backward_three_channels_kernel(const BackwardParams<float> params) {
  const Walk& walk = params.sampling.walk;
  const auto total = static_cast<uint32_t>(walk.total);
  const bool wants_grid = Config::kSmooth && params.grad_grid.data != nullptr;
  const auto pixel_stride = static_cast<int>(params.input.stride[0]);
  // Whole warps go round together, for what they do in common.
  for (uint32_t first = blockIdx.x * kThreads; first < total; first += gridDim.x * kThreads) {
    const bool active = first + threadIdx.x < total;
    const Sample sample = locate<Config>(active ? first + threadIdx.x : total - 1, walk);
    Taps<Config> taps;
    compute_taps(taps, sample, params.sampling, params.grad_input);
    if (!active) {
      GRIDSAMPLE_UNROLL_ALL
      for (int k = 0; k < Config::kTaps; ++k) taps.offset[0][k] = portable::kOutside;
    }
    const WarpPeers peers(taps, sample.batch * params.grad_input.batch_stride, active);
    float gradient[Config::kDims];
    set_zero(gradient);
    // Anywhere, or where all taps of the warp are inside and no lanes are combined: code that up to
    // eight taps are worth.
    const auto add = [&]<bool kAnywhere>() {
      const int64_t place = offset_of<Config>(sample, params.grad_output, walk);
      for (int64_t image = 0; image < params.images; ++image) {
        const int64_t batch = sample.batch + image;
        const auto* grads = static_cast<const float*>(params.grad_output.data) +
                            batch * params.grad_output.batch_stride + place;
        const auto* input =
            static_cast<const float*>(params.input.data) + batch * params.input.batch_stride;
        auto* sums =
            static_cast<float*>(params.grad_input.data) + batch * params.grad_input.batch_stride;
        float grad[kChannels];
        GRIDSAMPLE_UNROLL_ALL
        for (int c = 0; c < kChannels; ++c) {
          grad[c] = __ldcs(grads + c * params.grad_output.channel_stride);
        }
        const auto product = [&](int z, int y, int x) {
          const int number = number_of_pixel<kAnywhere>(taps, z, y, x);
          float sum = 0;
          if (kAnywhere && number < 0) return sum;
          const float* pixel = input + int64_t(number) * pixel_stride;
          GRIDSAMPLE_UNROLL_ALL
          for (int c = 0; c < kChannels; ++c) {
            sum = multiply_add(grad[c], __ldg(pixel + c * params.input.channel_stride), sum);
          }
          return sum;
        };
        if (wants_grid) contract(taps, product, gradient);
        for_each_tap(taps, [&](int z, int y, int x) {
          const int number = number_of_pixel<kAnywhere>(taps, z, y, x);
          const float weight = weight_of_tap(taps, z, y, x);
          float part[kChannels];
          GRIDSAMPLE_UNROLL_ALL
          for (int c = 0; c < kChannels; ++c) part[c] = weight * grad[c];
          if constexpr (kAnywhere) {
            if (peers.combine()) {
              GRIDSAMPLE_UNROLL_ALL
              for (int c = 0; c < kChannels; ++c) part[c] = peers.sum(part[c]);
            }
            if (!peers.leads() || number < 0) return;
          }
          add_pixel(params, sums, number, part);
        });
      }
    };
    if (Config::kAllTaps > 8 || peers.combine() || !are_inside(taps)) {
      add.template operator()<true>();
    } else if constexpr (Config::kAllTaps <= 8) {
      add.template operator()<false>();
    }
    if (wants_grid && active) {
      store_grad_grid<Config>(
          params.grad_grid, sample, walk, [&](int a) { return gradient[a]; },
          [&](int a) { return taps.slope[a]; });
    }
  }
}

}  // namespace

void backward_three_channels(const BackwardParams<float>& backward, const Geometry& geometry,
                             const Queue& queue) {
  BackwardParams<float> params = backward;
  int64_t pixels = 1;
  for (int a = 0; a < geometry.dims; ++a) {
    params.grad_input.stride[a] = pixels;
    pixels *= geometry.input_size[a];
  }
  Spread spread;
  spread.tiles = ceil_div(params.sampling.walk.total, kThreads);
  dispatch_mode<true>(geometry, [&]<int kDims, Mode kMode>() {
    const auto with = [&]<bool kZeros>() {
      using Config = Config<float, kDims, kMode, int32_t, kZeros>;
      if constexpr (Config::kAllTaps <= 16) {
        launch("backward_three_channels", backward_three_channels_kernel<Config>, spread, params,
               queue);
      }
    };
    if (only_pads_with_zeros(geometry)) return with.template operator()<true>();
    with.template operator()<false>();
  });
}

}  // namespace gridsample_ext::cuda
