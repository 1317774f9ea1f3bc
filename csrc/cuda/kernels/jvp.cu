// The derivative of the output along a direction for the grid and, if that is given, one for the
// input. A thread has some of the channels of a sample.

#include "cuda/device/channel_lanes.cuh"
#include "cuda/device/config.cuh"
#include "cuda/device/moving_taps.cuh"
#include "cuda/kernels/kernels.cuh"

namespace gridsample_ext::cuda {
namespace {

template <typename Config>
__global__ void __launch_bounds__(kThreads, 1)
    jvp_kernel(const JvpParams<typename Config::compute_t> params) {
  using pixel_t = typename Config::pixel_t;
  using compute_t = typename Config::compute_t;
  using index_t = typename Config::index_t;
  const Pixels<pixel_t> pixels(params.input.dtype);
  const Walk& walk = params.sampling.walk;
  const ChannelLanes lanes(params.lanes);
  const bool has_tangent = params.tangent_input.data != nullptr;
  for (int64_t number = lanes.first_sample(); number < walk.total; number += lanes.sample_step()) {
    const Sample sample = locate<Config>(number, walk);
    MovingTaps<Config> taps;
    compute_moving_taps(taps, sample, params.sampling, params.input, params.tangent_grid);
    const WeightedSum<MovingTaps<Config>> sum(taps);
    const auto* input =
        static_cast<const pixel_t*>(params.input.data) + sample.batch * params.input.batch_stride;
    const auto* tangent = static_cast<const pixel_t*>(params.tangent_input.data) +
                          sample.batch * params.tangent_input.batch_stride;
    auto* output = static_cast<pixel_t*>(params.output.data) +
                   sample.batch * params.output.batch_stride +
                   offset_of<Config>(sample, params.output, walk);
    for (int64_t c = lanes.first_channel(); c < params.channels; c += lanes.channel_step()) {
      const pixel_t* plane = input + c * params.input.channel_stride;
      const pixel_t* tangent_plane = tangent + c * params.tangent_input.channel_stride;
      Dual<compute_t> value = {};
      sum(
          [&](index_t offset, Dual<compute_t>& pixel) {
            pixel.value = taps.moves ? pixels.load(plane + offset) : compute_t(0);
            pixel.dot = has_tangent ? pixels.load(tangent_plane + offset) : compute_t(0);
          },
          value);
      const compute_t result[] = {value.dot};
      pixels.store(output + c * params.output.channel_stride, result);
    }
  }
}

}  // namespace

template <typename compute_t>
void jvp(JvpParams<compute_t> params, const Geometry& geometry, bool narrow, const Queue& queue) {
  params.lanes = lanes_of_channels(params.sampling.walk.total, params.channels,
                                   params.input.channel_stride == 1, queue);
  const Spread spread =
      spread_over_lanes(params.sampling.walk.total, params.channels, params.lanes, queue);
  dispatch<kSecondOrderKernels, compute_t>(
      geometry, params.input.dtype, narrow,
      [&]<typename Config>() { launch("jvp", jvp_kernel<Config>, spread, params, queue); });
}

template void jvp(JvpParams<float>, const Geometry&, bool, const Queue&);
template void jvp(JvpParams<double>, const Geometry&, bool, const Queue&);

}  // namespace gridsample_ext::cuda
