// Both gradients of the backward pass' derivative along a direction for the grid and, if that is
// given, one for the input. A thread has some of the channels of a sample; parts of a sample's
// grad_grid are added up in a fixed order.

#include "cuda/device/channel_lanes.cuh"
#include "cuda/device/dispatch.cuh"
#include "cuda/device/moving_taps.cuh"
#include "cuda/kernels/kernels.cuh"

namespace gridsample_ext::cuda {
namespace {

/// What one thread does for one sample: some of the channels of all its images.
template <typename Config>
struct MovingBackward {
  using pixel_t = typename Config::pixel_t;
  using compute_t = typename Config::compute_t;
  using index_t = typename Config::index_t;
  using dual_t = Dual<compute_t>;
  // With few taps their products are summed over the channels first, and contracted once.
  static constexpr bool kFewTaps = Config::kAllTaps <= 16;

  const BackwardParams<compute_t>& params;
  const Pixels<pixel_t>& pixels;
  MovingTaps<Config>& taps;
  const Sample& sample;
  const ChannelLanes& lanes;

  /// Calls visit(grad, input, grad_grad_input, grad_input) for the thread's channels: a value and
  /// three planes, the second of them null where it is zero.
  template <typename Visit>
  GRIDSAMPLE_DEVICE void for_each_channel(const Visit& visit) const {
    const View& grad_output = params.grad_output;
    const int64_t grad_place = offset_of<Config>(sample, grad_output, params.sampling.walk);
    const auto plane = [&]<typename T>(const View& view, T* data, int64_t batch, int64_t c) {
      return data == nullptr ? nullptr : data + batch * view.batch_stride + c * view.channel_stride;
    };
    int64_t c = lanes.first_channel();
    for (int64_t image = 0; image < params.images; ++image) {
      const int64_t batch = sample.batch + image;
      for (; c < params.channels; c += lanes.channel_step()) {
        const auto* grad = static_cast<const pixel_t*>(grad_output.data);
        visit(pixels.load(plane(grad_output, grad, batch, c) + grad_place),
              plane(params.input, static_cast<const pixel_t*>(params.input.data), batch, c),
              plane(params.grad_grad_input,
                    static_cast<const pixel_t*>(params.grad_grad_input.data), batch, c),
              plane(params.grad_input, static_cast<compute_t*>(params.grad_input.data), batch, c));
      }
      c -= params.channels;
    }
  }

  GRIDSAMPLE_DEVICE void run(compute_t (&gradient)[Config::kDims]) const {
    if (!taps.moves) return;
    if constexpr (kFewTaps) {
      run_few_taps(gradient);
    } else {
      run_many_taps(gradient);
    }
  }

  GRIDSAMPLE_DEVICE void run_few_taps(compute_t (&gradient)[Config::kDims]) const {
    const bool wants_grid = params.grad_grid.data != nullptr;
    dual_t products[Config::kAllTaps] = {};
    for_each_channel([&](compute_t grad, const pixel_t* input, const pixel_t* grad_grad_input,
                         compute_t* grad_input) {
      for_each_tap(taps, [&](int z, int y, int x) {
        const auto offset = offset_of_tap(taps, z, y, x);
        if (offset < 0) return;
        if (wants_grid) {
          dual_t& product = products[number_of_tap<Config>(z, y, x)];
          product.value = multiply_add(grad, pixels.load(input + offset), product.value);
          if (grad_grad_input != nullptr) {
            product.dot = multiply_add(grad, pixels.load(grad_grad_input + offset), product.dot);
          }
        }
        if (grad_input != nullptr) {
          atomicAdd(grad_input + offset, weight_of_tap(taps, z, y, x).dot * grad);
        }
      });
    });
    if (wants_grid) {
      add_contraction([&](int z, int y, int x) { return products[number_of_tap<Config>(z, y, x)]; },
                      gradient);
    }
  }

  GRIDSAMPLE_DEVICE void run_many_taps(compute_t (&gradient)[Config::kDims]) const {
    const bool wants_grid = params.grad_grid.data != nullptr;
    for_each_channel([&](compute_t grad, const pixel_t* input, const pixel_t* grad_grad_input,
                         compute_t* grad_input) {
      const auto visit_tap = [&](int z, int y, int x) {
        dual_t product = {};
        const auto offset = offset_of_tap(taps, z, y, x);
        if (offset < 0) return product;
        if (grad_input != nullptr) {
          atomicAdd(grad_input + offset, weight_of_tap(taps, z, y, x).dot * grad);
        }
        if (wants_grid) {
          product.value = grad * pixels.load(input + offset);
          if (grad_grad_input != nullptr)
            product.dot = grad * pixels.load(grad_grad_input + offset);
        }
        return product;
      };
      add_contraction(visit_tap, gradient);
    });
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
      geometry, params.input.dtype, narrow,
      [&]<typename Config>() { launch(double_backward_kernel<Config>, spread, params, queue); });
}

template void double_backward(BackwardParams<float>, const Geometry&, bool, const Queue&);
template void double_backward(BackwardParams<double>, const Geometry&, bool, const Queue&);

}  // namespace gridsample_ext::cuda
