// grad_input whose bits do not depend on the order of additions, which differs from run to run.
//
// Integers add up to the same sum in any order, so contributions are added as multiples of a unit.
// With n samples on an image, and the contributions of a sample to a channel at most 4 * 2^e in sum
// of magnitudes, a pixel's sum stays below 2^E, E = e + ceil(log2(n)) + 2. The unit is 2^(E - 62),
// so that sums fit 63 bits. Each image has an e of its own:
//
//   backward          |grad_output| < 2^e, since the weights of a sample's taps are at most 4 in
//                     sum of magnitudes (1.375^3 = 2.6 for tricubic)
//   double backward   |grad_output| * sum over axes of |c_a| < 2^(e - 1), since their derivatives
//                     by a coordinate are at most 8 (cubic w' are 3 at most, so 3 * 1.375^2 = 5.7);
//                     c_a is at most |grad_grad_grid_a| * size / 2
//
//   float32   rounding to the unit costs, beside the image's largest gradient, 2^-(60 - log2(n)):
//             with 2^24 samples as little as 2^-36, where float32 itself has 2^-24
//   float64   what the rounding leaves, at most half a unit, is added up in a second integer, in
//             units 2^L times finer, L = 57 - ceil(log2(n)): 64 taps of all samples on one pixel
//             stay below 2^62
//
// Infinite and NaN contributions are noted apart, a byte for each pixel: which there were decides,
// not when.

#include <climits>
#include <limits>

#include "cuda/device/config.cuh"
#include "cuda/device/launch.cuh"
#include "cuda/device/moving_taps.cuh"
#include "cuda/kernels/kernels.cuh"

namespace gridsample_ext::cuda {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr unsigned kPlusInfinity = 1;
constexpr unsigned kMinusInfinity = 2;
constexpr unsigned kNaN = 4;

// Nothing finite is added of more than 64 * 2^1024, nor anything below 2^-1074. Stored with a bias:
// 0, where memory starts, stands for nothing to add.
constexpr int kMostExponent = 1024 + 4;
constexpr int kLeastExponent = -1074;
constexpr int kBias = 1 - kLeastExponent;

/// Exponents of an image's two units.
struct Units {
  int coarse;
  int fine;  // relative to the coarse one
};

GRIDSAMPLE_DEVICE int bits_for(int64_t count) {
  int bits = 0;
  while (bits < 62 && (int64_t(1) << bits) < count) ++bits;
  return bits;
}

template <typename compute_t>
GRIDSAMPLE_DEVICE Units units_for(const FixedPointParams<compute_t>& params, int64_t image) {
  const bool shared = params.grad_input.batch_stride == 0;
  const int samples =
      bits_for(shared ? params.sampling.walk.total : params.sampling.walk.per_image);
  const int exponent = static_cast<int>(params.exponents[image]) - kBias;
  return {exponent + samples + 2 - 62, samples - 57};
}

/// Which image of grad_input a sample of the given batch contributes to.
template <typename compute_t>
GRIDSAMPLE_DEVICE int64_t image_of(const FixedPointParams<compute_t>& params, int64_t batch) {
  return params.grad_input.batch_stride == 0 ? 0 : batch;
}

/// Calls visit(sample, c, end, step) for the thread's share of samples and channels: lanes side by
/// side take channels that are side by side in memory, or samples.
template <typename compute_t, typename Visit>
GRIDSAMPLE_DEVICE void for_each_share(const FixedPointParams<compute_t>& params,
                                      const Visit& visit) {
  const Walk& walk = params.sampling.walk;
  const int64_t chunks = (params.channels + params.chunk_channels - 1) / params.chunk_channels;
  const int64_t total = walk.total * params.lanes * chunks;
  const int64_t step = int64_t(gridDim.x) * kThreads;
  for (int64_t item = int64_t(blockIdx.x) * kThreads + threadIdx.x; item < total; item += step) {
    const int64_t share = item / params.lanes;
    const int64_t chunk = share / walk.total;
    const int64_t first = chunk * params.chunk_channels;
    const int64_t left = params.channels - first;
    visit(locate(share - chunk * walk.total, walk), first + (item - share * params.lanes),
          first + (left < params.chunk_channels ? left : params.chunk_channels), params.lanes);
  }
}

/// What motion adds to the exponent of grad_output: log2 of a bound for twice the sum of |c_a|, or
/// INT_MIN if nothing moves.
template <typename compute_t>
GRIDSAMPLE_DEVICE int exponent_of_motion(const FixedPointParams<compute_t>& params,
                                         const Sample& sample) {
  const View& view = params.grad_grad_grid;
  const int64_t place =
      sample.batch * view.batch_stride + offset_of<kMaxDims>(sample, view, params.sampling.walk);
  int most = INT_MIN;
  for (int a = 0; a < params.dims; ++a) {
    const double component = static_cast<double>(
        load_as<compute_t>(view.data, view.dtype, place + a * view.channel_stride));
    // With one that is not finite, whatever is added is not, unless the slope is 0.
    if (component - component != 0.0 || component == 0.0) continue;
    int exponent = 0;
    frexp(component, &exponent);
    exponent += bits_for(params.sampling.input_size[a]);
    most = most < exponent ? exponent : most;
  }
  return most == INT_MIN ? most : most + 2;  // three axes
}

/// e of each image.
template <typename compute_t>
__global__ void __launch_bounds__(kThreads)
    largest_kernel(const FixedPointParams<compute_t> params) {
  const View& grad_output = params.grad_output;
  for_each_share(params, [&](const Sample& sample, int64_t c, int64_t end, int step) {
    const int64_t place = sample.batch * grad_output.batch_stride +
                          offset_of<kMaxDims>(sample, grad_output, params.sampling.walk);
    double largest = 0;
    for (; c < end; c += step) {
      // As what contributions are made of: a double may be infinite as a float.
      const double magnitude = fabs(static_cast<double>(load_as<compute_t>(
          grad_output.data, grad_output.dtype, place + c * grad_output.channel_stride)));
      if (magnitude - magnitude == 0.0 && magnitude > largest) largest = magnitude;
    }
    if (largest == 0.0) return;
    int exponent = 0;
    frexp(largest, &exponent);
    if (params.grad_grad_grid.data != nullptr) {
      const int motion = exponent_of_motion(params, sample);
      if (motion == INT_MIN) return;
      exponent += motion;
    }
    exponent = exponent < kLeastExponent ? kLeastExponent : exponent;
    exponent = exponent > kMostExponent ? kMostExponent : exponent;
    unsigned* to = params.exponents + image_of(params, sample.batch);
    const auto biased = static_cast<unsigned>(exponent + kBias);
    // Most find that it is there already.
    if (biased > *static_cast<volatile unsigned*>(to)) atomicMax(to, biased);
  });
}

/// x 2^-exponent, by two factors, since one may not be a finite double.
class Scale {
 public:
  GRIDSAMPLE_DEVICE explicit Scale(int exponent)
      : first_(ldexp(1.0, -exponent / 2)), second_(ldexp(1.0, -exponent - -exponent / 2)) {}
  GRIDSAMPLE_DEVICE double operator()(double x) const { return x * first_ * second_; }

 private:
  double first_;
  double second_;
};

template <typename compute_t>
GRIDSAMPLE_DEVICE void add_fixed(const FixedPointParams<compute_t>& params, const Scale& coarse,
                                 const Scale& fine, int64_t element, compute_t value) {
  const double wide = static_cast<double>(value);
  if (wide - wide != 0.0) {
    const unsigned special = wide != wide ? kNaN : wide > 0.0 ? kPlusInfinity : kMinusInfinity;
    atomicOr(params.specials + element / 4, special << (element % 4 * 8));
    return;
  }
  const double scaled = coarse(wide);
  const double whole = rint(scaled);
  // Two's complement: additions of negative numbers wrap around to the right sum.
  atomicAdd(params.sums + element, static_cast<unsigned long long>(static_cast<long long>(whole)));
  if constexpr (sizeof(compute_t) == sizeof(double)) {
    const double rest = rint(fine(scaled - whole));
    atomicAdd(params.sums + params.elements + element,
              static_cast<unsigned long long>(static_cast<long long>(rest)));
  }
}

template <typename Config, bool kMoving>
__global__ void __launch_bounds__(kThreads, 1)
    fixed_point_kernel(const FixedPointParams<typename Config::compute_t> params) {
  using compute_t = typename Config::compute_t;
  const View& grad_output = params.grad_output;
  const View& grad_input = params.grad_input;
  for_each_share(params, [&](const Sample& sample, int64_t c, int64_t end, int step) {
    if (c >= end) return;
    std::conditional_t<kMoving, MovingTaps<Config>, Taps<Config>> taps;
    if constexpr (kMoving) {
      compute_moving_taps(taps, sample, params.sampling, grad_input, params.grad_grad_grid);
      if (!taps.moves) return;
    } else {
      compute_taps(taps, sample, params.sampling, grad_input);
    }
    const Units units = units_for(params, image_of(params, sample.batch));
    const Scale coarse(units.coarse);
    const Scale fine(units.fine);
    const int64_t from = sample.batch * grad_output.batch_stride +
                         offset_of<Config::kDims>(sample, grad_output, params.sampling.walk);
    const int64_t to = sample.batch * grad_input.batch_stride;
    for (; c < end; c += step) {
      const auto grad = load_as<compute_t>(grad_output.data, grad_output.dtype,
                                           from + c * grad_output.channel_stride);
      const int64_t plane = to + c * grad_input.channel_stride;
      for_each_tap(taps, [&](int z, int y, int x) {
        const auto offset = offset_of_tap(taps, z, y, x);
        if (offset < 0) return;
        compute_t weight;
        if constexpr (kMoving) {
          weight = weight_of_tap(taps, z, y, x).dot;
        } else {
          weight = weight_of_tap(taps, z, y, x);
        }
        add_fixed(params, coarse, fine, plane + offset, weight * grad);
      });
    }
  });
}

template <typename compute_t>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const FixedPointParams<compute_t> params) {
  const int64_t step = int64_t(gridDim.x) * kThreads;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < params.elements; i += step) {
    const Units units = units_for(params, i / params.image_elements);
    double sum = static_cast<double>(static_cast<long long>(params.sums[i]));
    if constexpr (sizeof(compute_t) == sizeof(double)) {
      const auto fine = static_cast<long long>(params.sums[params.elements + i]);
      sum += ldexp(static_cast<double>(fine), units.fine);
    }
    sum = ldexp(sum, units.coarse);
    const unsigned special = params.specials[i / 4] >> (i % 4 * 8) & 7;
    if (special == kPlusInfinity) {
      sum = kInfinity;
    } else if (special == kMinusInfinity) {
      sum = -kInfinity;
    } else if (special != 0) {
      sum = kInfinity - kInfinity;
    }
    store_as(params.result, params.result_dtype, i, static_cast<compute_t>(sum));
  }
}

}  // namespace

template <typename compute_t>
void grad_input_in_fixed_point(FixedPointParams<compute_t> params, const Geometry& geometry,
                               const Queue& queue) {
  constexpr int64_t kChannels = 8;  // a thread's, worth the taps
  params.lanes = params.grad_input.channel_stride == 1
                     ? static_cast<int>(std::min<int64_t>(params.channels, kWarpSize))
                     : 1;
  params.chunk_channels = kChannels * params.lanes;
  Spread shares;
  shares.tiles = ceil_div(
      params.sampling.walk.total * params.lanes * ceil_div(params.channels, params.chunk_channels),
      kThreads);
  Spread elements;
  elements.tiles = ceil_div(params.elements, kThreads);
  launch("largest", largest_kernel<compute_t>, shares, params, queue);
  dispatch<kFixedPointKernels, compute_t>(
      geometry, params.grad_output.dtype, false, [&]<typename Config>() {
        if (params.grad_grad_grid.data == nullptr) {
          launch("fixed_point", fixed_point_kernel<Config, false>, shares, params, queue);
        } else if constexpr (Config::kSmooth) {
          launch("fixed_point", fixed_point_kernel<Config, true>, shares, params, queue);
        }
      });
  launch("finish", finish_kernel<compute_t>, elements, params, queue);
}

template void grad_input_in_fixed_point(FixedPointParams<float>, const Geometry&, const Queue&);
template void grad_input_in_fixed_point(FixedPointParams<double>, const Geometry&, const Queue&);

}  // namespace gridsample_ext::cuda
