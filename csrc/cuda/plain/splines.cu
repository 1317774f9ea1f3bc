// spline_filter along one axis: a thread for each line. Along y and z the threads of a warp read
// pixels that lie side by side; along x the cache has to make up for it that they do not.

#include "math/splines.h"
#include "cuda/device/launch.cuh"
#include "cuda/device/pixels.cuh"
#include "cuda/kernels/kernels.cuh"

namespace gridsample_ext::cuda {
namespace {

template <typename compute_t>
__global__ void __launch_bounds__(kThreads) spline_kernel(const SplineParams params) {
  for (int64_t line = int64_t(blockIdx.x) * kThreads + threadIdx.x; line < params.lines;
       line += int64_t(gridDim.x) * kThreads) {
    int64_t first = 0;
    int64_t to_first = 0;
    int64_t rest = line;
    GRIDSAMPLE_UNROLL_ALL
    for (int d = 0; d < SplineParams::kOthers; ++d) {
      const int64_t index = rest % params.size[d];
      rest /= params.size[d];
      first += index * params.from_strides[d];
      to_first += index * params.to_strides[d];
    }
    auto* to = static_cast<compute_t*>(params.to.data) + to_first;
    const auto load = [&](int64_t k, compute_t(&value)[1]) {
      value[0] =
          load_as<compute_t>(params.from.data, params.from.dtype, first + k * params.from_stride);
    };
    const auto get = [&](int64_t k, compute_t(&value)[1]) { value[0] = to[k * params.to_stride]; };
    const auto put = [&](int64_t k, const compute_t(&value)[1]) {
      to[k * params.to_stride] = value[0];
    };
    portable::filter_lines<compute_t, 1>(params.axis, load, put, get, put);
  }
}

}  // namespace

template <typename compute_t>
void filter_splines(const SplineParams& params, const Queue& queue) {
  Spread spread;
  spread.tiles = ceil_div(params.lines, kThreads);
  launch("splines", spline_kernel<compute_t>, spread, params, queue);
}

template void filter_splines<float>(const SplineParams&, const Queue&);
template void filter_splines<double>(const SplineParams&, const Queue&);

}  // namespace gridsample_ext::cuda
