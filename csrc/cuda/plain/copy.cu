// Output of nearest for images whose elements kernels do not compute with: integers and bools,
// which are copied as they are. One thread per sample.

#include "cuda/device/config.cuh"
#include "cuda/plain/filled_taps.cuh"
#include "cuda/device/launch.cuh"
#include "cuda/kernels/kernels.cuh"

namespace gridsample_ext::cuda {
namespace {

template <typename Config, typename element_t>
__global__ void __launch_bounds__(kThreads)
    copy_kernel(const CopyParams<typename Config::compute_t> params) {
  const Walk& walk = params.sampling.walk;
  for (int64_t number = int64_t(blockIdx.x) * kThreads + threadIdx.x; number < walk.total;
       number += int64_t(gridDim.x) * kThreads) {
    const Sample sample = locate<Config>(number, walk);
    Taps<Config> taps;
    compute_taps(taps, sample, params.sampling, params.input);
    const FilledTaps<Config> filled(taps, sample, params.sampling, false);
    const int64_t pixel =
        sample.batch * params.input.batch_stride + offset_of_tap(filled.taps, 0, 0, 0);
    const int64_t place =
        sample.batch * params.output.batch_stride + offset_of<Config>(sample, params.output, walk);
    const Element& own = filled.excluded ? params.outside_value : params.fill_value;
    const auto* input = static_cast<const element_t*>(params.input.data);
    auto* output = static_cast<element_t*>(params.output.data);
    for (int64_t c = 0; c < params.channels; ++c) {
      element_t* to = output + place + c * params.output.channel_stride;
      if (filled.inside) {
        *to = input[pixel + c * params.input.channel_stride];
      } else {
        std::memcpy(to, own.bytes, sizeof(*to));
      }
    }
  }
}

}  // namespace

template <typename compute_t>
void copy_nearest(const CopyParams<compute_t>& params, const Geometry& geometry,
                  const Queue& queue) {
  Spread spread;
  spread.tiles = ceil_div(params.sampling.walk.total, kThreads);
  const auto with_dims = [&]<int kDims>() {
    using Config = Config<compute_t, kDims, Mode::kNearest, int64_t, false>;
    const auto with_element = [&]<typename element_t>() {
      launch("copy", copy_kernel<Config, element_t>, spread, params, queue);
    };
    switch (size_of(params.input.dtype)) {
      case 1:
        return with_element.template operator()<uint8_t>();
      case 2:
        return with_element.template operator()<uint16_t>();
      case 4:
        return with_element.template operator()<uint32_t>();
      default:
        return with_element.template operator()<uint64_t>();
    }
  };
  geometry.dims == 2 ? with_dims.template operator()<2>() : with_dims.template operator()<3>();
}

template void copy_nearest(const CopyParams<float>&, const Geometry&, const Queue&);
template void copy_nearest(const CopyParams<double>&, const Geometry&, const Queue&);

}  // namespace gridsample_ext::cuda
