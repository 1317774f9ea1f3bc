// Both gradients of the backward pass' derivative along a direction for the grid and, if that is
// given, one for the input. A thread has some of the channels of a sample; parts of a sample's
// grad_grid are added up in a fixed order.

#include "cuda/device/channel_lanes.cuh"
#include "cuda/device/config.cuh"
#include "cuda/device/moving_taps.cuh"
#include "cuda/kernels/kernels.cuh"

namespace gridsample_ext::cuda {
namespace {

/// What one thread does for one sample: some of the channels of all its images.
template <typename Config>
struct MovingBackward {
  using pixel_t = typename Config::pixel_t;
  using compute_t = typename Config::compute_t;
  using dual_t = Dual<compute_t>;
  // With few taps their products are summed over the channels first, and contracted once.
  static constexpr bool kFewTaps = Config::kAllTaps <= 16;

  const BackwardParams<compute_t>& params;
  const Pixels<pixel_t>& pixels;
  MovingTaps<Config>& taps;
  const Sample& sample;
  const ChannelLanes& lanes;

  /// A value of grad_output, and planes; null where they are not wanted or zero.
  struct Channel {
    compute_t grad;
    const pixel_t* input;
    const pixel_t* grad_grad_input;
    compute_t* grad_input;
  };

  /// Calls visit(channel) for the thread's channels.
  template <typename Visit>
  GRIDSAMPLE_DEVICE void for_each_channel(const Visit& visit) const {
    const int64_t place = offset_of<Config>(sample, params.grad_output, params.sampling.walk);
    int64_t c = lanes.first_channel();
    for (int64_t image = 0; image < params.images; ++image) {
      const auto plane = [&]<typename T>(const View& view, T* data) {
        return data == nullptr
                   ? nullptr
                   : data + (sample.batch + image) * view.batch_stride + c * view.channel_stride;
      };
      const auto pixels_of = [&](const View& view) {
        return plane(view, static_cast<const pixel_t*>(view.data));
      };
      for (; c < params.channels; c += lanes.channel_step()) {
        visit(Channel{pixels.load(pixels_of(params.grad_output) + place), pixels_of(params.input),
                      pixels_of(params.grad_grad_input),
                      plane(params.grad_input, static_cast<compute_t*>(params.grad_input.data))});
      }
      c -= params.channels;
    }
  }

  GRIDSAMPLE_DEVICE void run(compute_t (&gradient)[Config::kDims]) const {
    if (!taps.moves) return;
    const bool wants_grid = params.grad_grid.data != nullptr;
    // Adds to grad_input at a tap, and to the product of grad_output and the pixel.
    const auto add_tap = [&](dual_t& product, const Channel& channel, int z, int y, int x) {
      const auto offset = offset_of_tap(taps, z, y, x);
      if (offset < 0) return;
      if (wants_grid) {
        dual_t pixel = {pixels.load(channel.input + offset), 0};
        if (channel.grad_grad_input != nullptr) {
          pixel.dot = pixels.load(channel.grad_grad_input + offset);
        }
        add_product(product, channel.grad, pixel);
      }
      if (channel.grad_input != nullptr) {
        atomicAdd(channel.grad_input + offset, weight_of_tap(taps, z, y, x).dot * channel.grad);
      }
    };
    if constexpr (kFewTaps) {
      dual_t products[Config::kAllTaps] = {};
      for_each_channel([&](const Channel& channel) {
        for_each_tap(taps, [&](int z, int y, int x) {
          add_tap(products[number_of_tap<Config>(z, y, x)], channel, z, y, x);
        });
      });
      if (!wants_grid) return;
      add_contraction([&](int z, int y, int x) { return products[number_of_tap<Config>(z, y, x)]; },
                      gradient);
    } else {
      for_each_channel([&](const Channel& channel) {
        const auto product_at = [&](int z, int y, int x) {
          dual_t product = {};
          add_tap(product, channel, z, y, x);
          return product;
        };
        add_contraction(product_at, gradient);
      });
    }
  }

  /// Adds the derivatives of what contract adds.
  template <typename Product>
  GRIDSAMPLE_DEVICE void add_contraction(const Product& product,
                                         compute_t (&gradient)[Config::kDims]) const {
    dual_t contracted[Config::kDims] = {};
    contract(taps, product, contracted);
    GRIDSAMPLE_UNROLL_ALL
    for (int a = 0; a < Config::kDims; ++a) gradient[a] += contracted[a].dot;
  }
};

template <typename Config>
__global__ void __launch_bounds__(kThreads, 1)
    double_backward_kernel(const BackwardParams<typename Config::compute_t> params) {
  using compute_t = typename Config::compute_t;
  const Pixels<typename Config::pixel_t> pixels(params.input.dtype);
  const Walk& walk = params.sampling.walk;
  const ChannelLanes lanes(params.lanes);
  // Whole warps go round together, for the shuffles.
  int64_t number = lanes.first_sample();
  for (int64_t first = lanes.first_sample_of_block(); first < walk.total;
       first += lanes.sample_step(), number += lanes.sample_step()) {
    const bool active = number < walk.total;
    const Sample sample = locate<Config>(active ? number : walk.total - 1, walk);
    MovingTaps<Config> taps;
    compute_moving_taps(taps, sample, params.sampling, params.input, params.grad_grad_grid);
    taps.moves = taps.moves && active;
    compute_t gradient[Config::kDims];
    set_zero(gradient);
    MovingBackward<Config>{params, pixels, taps, sample, lanes}.run(gradient);
    if (params.grad_grid.data == nullptr) continue;
    for (int distance = lanes.lanes / 2; distance > 0; distance /= 2) {
      GRIDSAMPLE_UNROLL_ALL
      for (int a = 0; a < Config::kDims; ++a) {
        gradient[a] += __shfl_xor_sync(kWholeWarp, gradient[a], distance);
      }
    }
    if (active && lanes.lane == 0) {
      store_grad_grid<Config>(
          params.grad_grid, sample, walk, [&](int a) { return gradient[a]; },
          [&](int a) { return taps.slope[a]; });
    }
  }
}

}  // namespace

template <typename compute_t>
void double_backward(BackwardParams<compute_t> params, const Geometry& geometry, bool narrow,
                     const Queue& queue) {
  const int64_t samples = params.sampling.walk.total;
  params.lanes = lanes_of_channels(samples, params.images * params.channels,
                                   params.input.channel_stride == 1, queue);
  // grad_grid has one block for all channels of a sample, which adds up.
  const int64_t divisible = params.grad_grid.data == nullptr ? params.channels : 1;
  const Spread spread = spread_over_lanes(samples, divisible, params.lanes, queue);
  dispatch<kSecondOrderKernels, compute_t>(
      geometry, params.input.dtype, narrow, [&]<typename Config>() {
        launch("double_backward", double_backward_kernel<Config>, spread, params, queue);
      });
}

template void double_backward(BackwardParams<float>, const Geometry&, bool, const Queue&);
template void double_backward(BackwardParams<double>, const Geometry&, bool, const Queue&);

}  // namespace gridsample_ext::cuda
