// Output, one thread per sample: for images whose channels are not innermost in memory, or not in
// whole vectors. The taps are computed once for a chunk of channels; neighbouring threads read
// neighbouring pixels where the grid is smooth, and write neighbouring outputs.

#include "cuda/device/config.cuh"
#include "cuda/device/launch.cuh"
#include "cuda/device/sums.cuh"
#include "cuda/kernels/forward.cuh"
#include "cuda/kernels/kernels.cuh"

namespace gridsample_ext::cuda {
namespace {

template <typename Config>
__global__ void __launch_bounds__(kThreads, kLeastBlocks<Config>)
    forward_planes_kernel(const ForwardParams<typename Config::compute_t> params) {
  using pixel_t = typename Config::pixel_t;
  using index_t = typename Config::index_t;
  using number_t = typename Config::number_t;
  using value_t = typename OutputPixels<Config>::value_t;
  const OutputPixels<Config> pixels(params.input.dtype);
  const Walk& walk = params.sampling.walk;
  const auto total = static_cast<number_t>(walk.total);
  const auto channels = static_cast<number_t>(params.channels);
  const auto chunk_channels = static_cast<number_t>(params.chunk_channels);
  const number_t step = number_t(gridDim.x) * kThreads;
  for (number_t number = number_t(blockIdx.x) * kThreads + threadIdx.x; number < total;
       number += step) {
    const Sample sample = locate<Config>(number, walk);
    Taps<Config> taps;
    compute_taps(taps, sample, params.sampling, params.input);
    const auto* image =
        static_cast<const pixel_t*>(params.input.data) + sample.batch * params.input.batch_stride;
    auto* output = static_cast<pixel_t*>(params.output.data) +
                   sample.batch * params.output.batch_stride +
                   offset_of<Config>(sample, params.output, walk);
    const WeightedSum<Taps<Config>> sum(taps);
    for (number_t chunk = blockIdx.y * chunk_channels; chunk < channels;
         chunk += gridDim.y * chunk_channels) {
      const number_t left = channels - chunk;
      const int count = static_cast<int>(left < chunk_channels ? left : chunk_channels);
      const pixel_t* plane = image + chunk * params.input.channel_stride;
      pixel_t* to = output + chunk * params.output.channel_stride;
      for (int c = 0; c < count; ++c) {
        value_t value[1] = {};
        sum([&](index_t offset, value_t(&pixel)[1]) { pixels.load(plane + offset, pixel); }, value);
        pixels.store(to, value);
        plane += params.input.channel_stride;
        to += params.output.channel_stride;
      }
    }
  }
}

}  // namespace

template <typename compute_t>
void forward_planes(ForwardParams<compute_t> params, const Geometry& geometry, bool narrow,
                    const Queue& queue) {
  Spread spread;
  spread.tiles = ceil_div(params.sampling.walk.total, kThreads);
  const int64_t wanted = ceil_div(queue.wanted_blocks(), spread.tiles);
  constexpr int64_t kLeastChannels = 4;  // worth the taps
  constexpr int64_t kMostChannels = 1 << 30;
  params.chunk_channels = std::max(std::min(kLeastChannels, params.channels),
                                   std::min(kMostChannels, ceil_div(params.channels, wanted)));
  spread.chunks = ceil_div(params.channels, params.chunk_channels);
  dispatch<kForwardKernels, compute_t>(
      geometry, params.input.dtype, narrow, [&]<typename Config>() {
        launch("forward_planes", forward_planes_kernel<Config>, spread, params, queue);
      });
}

template void forward_planes(ForwardParams<float>, const Geometry&, bool, const Queue&);
template void forward_planes(ForwardParams<double>, const Geometry&, bool, const Queue&);

}  // namespace gridsample_ext::cuda
