// Output, lanes over channels: for channels-last images in whole vectors of 16 bytes. A block
// computes the taps of a tile of samples, a thread each; then groups of threads take the samples in
// turn, each thread some vectors of their channels. All access to pixels and output is in vectors.

#include "cuda/device/config.cuh"
#include "cuda/device/shared_taps.cuh"
#include "cuda/device/sums.cuh"
#include "cuda/kernels/forward.cuh"
#include "cuda/kernels/kernels.cuh"

namespace gridsample_ext::cuda {
namespace {

template <typename Config>
__global__ void __launch_bounds__(kThreads, kLeastBlocks<Config>)
    forward_rows_kernel(const ForwardParams<typename Config::compute_t> params) {
  using pixel_t = typename Config::pixel_t;
  using index_t = typename Config::index_t;
  using value_t = typename OutputPixels<Config>::value_t;
  constexpr int kVector = kForwardVector<pixel_t>;
  const OutputPixels<Config> format(params.input.dtype);
  const Walk& walk = params.sampling.walk;
  const int tile = params.tile;
  SharedTaps<Config, false> shared(shared_memory(), tile);
  const GroupMember member(params.lanes);
  const auto* pixels = static_cast<const pixel_t*>(params.input.data);
  auto* outputs = static_cast<pixel_t*>(params.output.data);

  for (int64_t number = blockIdx.x; number < params.tiles; number += gridDim.x) {
    const int64_t first = number * tile;
    const int count =
        fill_tile(shared, tile, first, params.sampling, params.input,
                  [&](int i, const Sample& sample) { shared.place(i) = sample.batch; });
    for (int i = member.group; i < count; i += member.groups) {
      Taps<Config> taps;
      shared.load(i, taps);
      const int64_t batch = shared.place(i);
      const pixel_t* image = pixels + batch * params.input.batch_stride;
      // The output is dense, so samples follow each other at one stride within an image.
      pixel_t* output = outputs + batch * params.output.batch_stride +
                        (first + i - batch * walk.per_image) * params.output.stride[0];
      const WeightedSum<Taps<Config>> sum(taps);
      for (int64_t chunk = int64_t(blockIdx.y) * params.chunk_channels; chunk < params.channels;
           chunk += int64_t(gridDim.y) * params.chunk_channels) {
        const int64_t rest = params.channels - chunk;
        const int64_t end = chunk + (rest < params.chunk_channels ? rest : params.chunk_channels);
        for (int64_t c = chunk + member.lane * kVector; c < end; c += params.lanes * kVector) {
          value_t values[kVector] = {};
          sum([&](index_t offset,
                  value_t(&pixel)[kVector]) { format.load(image + c + offset, pixel); },
              values);
          format.store(output + c, values);
        }
      }
    }
    __syncthreads();  // before the next tile's taps replace these
  }
}

}  // namespace

template <typename compute_t>
void forward_rows(ForwardParams<compute_t> params, const Geometry& geometry, bool narrow,
                  const Queue& queue) {
  dispatch<kForwardKernels, compute_t>(
      geometry, params.input.dtype, narrow, [&]<typename Config>() {
        constexpr int kVector = kForwardVector<typename Config::pixel_t>;
        const int64_t vectors = params.channels / kVector;
        Spread spread = spread_in_tiles<SharedTaps<Config, false>>(params, vectors, queue);
        // Many channels and few samples: turns of the lanes go to other blocks.
        const int64_t turns = ceil_div(vectors, params.lanes);
        const int64_t wanted = ceil_div(queue.wanted_blocks(), spread.tiles);
        const int64_t chunk_turns = ceil_div(turns, std::min(turns, wanted));
        params.chunk_channels = chunk_turns * params.lanes * kVector;
        spread.chunks = ceil_div(params.channels, params.chunk_channels);
        launch("forward_rows", forward_rows_kernel<Config>, spread, params, queue);
      });
}

template void forward_rows(ForwardParams<float>, const Geometry&, bool, const Queue&);
template void forward_rows(ForwardParams<double>, const Geometry&, bool, const Queue&);

}  // namespace gridsample_ext::cuda
