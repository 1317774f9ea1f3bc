// The label of each sample whose taps' weights add up to most. One thread per sample and channel.

#include "cuda/device/config.cuh"
#include "cuda/plain/filled_taps.cuh"
#include "cuda/device/launch.cuh"
#include "cuda/device/sums.cuh"
#include "cuda/kernels/kernels.cuh"

namespace gridsample_ext::cuda {
namespace {

using portable::load_label;
using portable::store_label;
using portable::Votes;

template <typename Config>
__global__ void __launch_bounds__(kThreads, 1)
    labels_kernel(const LabelParams<typename Config::compute_t> params) {
  using compute_t = typename Config::compute_t;
  const Walk& walk = params.sampling.walk;
  for (int64_t number = int64_t(blockIdx.x) * kThreads + threadIdx.x; number < walk.total;
       number += int64_t(gridDim.x) * kThreads) {
    const Sample sample = locate<Config>(number, walk);
    Taps<Config> computed;
    compute_taps(computed, sample, params.sampling, params.labels);
    FilledTaps<Config> filled(computed, sample, params.sampling, params.fills);
    const int64_t place =
        sample.batch * params.output.batch_stride + offset_of<Config>(sample, params.output, walk);
    for (int64_t c = blockIdx.y; c < params.channels; c += gridDim.y) {
      const int64_t plane =
          sample.batch * params.labels.batch_stride + c * params.labels.channel_stride;
      int64_t label = filled.excluded ? params.outside_value : params.fill_value;
      if (filled.inside) {
        Votes<compute_t, Config::kAllTaps> votes;
        for_each_tap(filled.taps, [&](int z, int y, int x) {
          if (!filled.is_read(z, y, x)) return;
          const int64_t offset = offset_of_tap(filled.taps, z, y, x);
          votes.add(offset < 0 ? params.fill_value
                               : load_label(params.labels.data, plane + offset, params.type),
                    weight_of_tap(filled.taps, z, y, x));
        });
        label = votes.winner(params.fill_value);
      }
      store_label(params.output.data, place + c * params.output.channel_stride, label, params.type);
    }
  }
}

}  // namespace

template <typename compute_t>
void sample_labels(const LabelParams<compute_t>& params, const Geometry& geometry,
                   const Queue& queue) {
  Spread spread;
  spread.tiles = ceil_div(params.sampling.walk.total, kThreads);
  spread.chunks = params.channels;
  dispatch_mode<true>(geometry, [&]<int kDims, Mode kMode>() {
    using Config = Config<compute_t, kDims, kMode, int64_t, false>;
    launch("labels", labels_kernel<Config>, spread, params, queue);
  });
}

template void sample_labels(const LabelParams<float>&, const Geometry&, const Queue&);
template void sample_labels(const LabelParams<double>&, const Geometry&, const Queue&);

}  // namespace gridsample_ext::cuda
