// Samples that read values outside the image other than 0, for which the other kernels have read 0:
// computed again, from tensors of any type and strides. One thread per sample, because they are
// few: those at the image's edges, and those with no pixel at all, which take no sums.

#include "cuda/device/config.cuh"
#include "cuda/plain/filled_taps.cuh"
#include "cuda/device/launch.cuh"
#include "cuda/device/moving_taps.cuh"
#include "cuda/kernels/kernels.cuh"

namespace gridsample_ext::cuda {
namespace {

template <typename Config, bool moves>
using TapsOf = std::conditional_t<moves, MovingTaps<Config>, Taps<Config>>;

template <typename Config, bool moves>
struct Finisher : FilledTaps<Config, TapsOf<Config, moves>> {
  using compute_t = typename Config::compute_t;
  using Params = FinishParams<compute_t>;
  using Filled = FilledTaps<Config, TapsOf<Config, moves>>;
  using weight_t = typename TapsOf<Config, moves>::weight_t;
  using Filled::excluded;
  using Filled::filled;
  using Filled::inside;
  using Filled::is_read;
  using Filled::taps;

  const Params& params;
  const Sample& sample;

  GRIDSAMPLE_DEVICE Finisher(const Params& params, const Sample& sample)
      : Filled(computed(params, sample), sample, params.sampling, params.fill_value != 0),
        params(params),
        sample(sample) {}

  static GRIDSAMPLE_DEVICE auto computed(const Params& params, const Sample& sample) {
    TapsOf<Config, moves> taps;
    if constexpr (moves) {
      compute_moving_taps(taps, sample, params.sampling, params.input, params.tangent_grid);
    } else {
      compute_taps(taps, sample, params.sampling, params.input);
    }
    return taps;
  }

  /// What a tap that is read finds in channel c of an image; of duals, with its change.
  GRIDSAMPLE_DEVICE weight_t pixel_at(int64_t batch, int64_t c, int z, int y, int x) const {
    const auto offset = offset_of_tap(taps, z, y, x);
    const auto load = [&](const View& view) {
      return load_as<compute_t>(view.data, view.dtype,
                                batch * view.batch_stride + c * view.channel_stride + offset);
    };
    compute_t value = offset < 0 ? params.fill_value : load(params.input);
    if constexpr (moves) {
      if (!taps.moves) value = 0;
      const bool changes = offset >= 0 && params.tangent_input.data != nullptr;
      return {value, changes ? load(params.tangent_input) : compute_t(0)};
    } else {
      return value;
    }
  }

  GRIDSAMPLE_DEVICE void finish_output() {
    const View& output = params.output;
    const int64_t to = sample.batch * output.batch_stride +
                       offset_of<Config>(sample, output, params.sampling.walk);
    for (int64_t c = 0; c < params.channels; ++c) {
      weight_t sum = {};
      if (inside) {
        for_each_tap(taps, [&](int z, int y, int x) {
          if (!is_read(z, y, x)) return;
          add_product(sum, weight_of_tap(taps, z, y, x), pixel_at(sample.batch, c, z, y, x));
        });
      }
      compute_t value;
      if constexpr (moves) {
        value = sum.dot;
      } else {
        value = inside ? sum : excluded ? params.outside_value : params.fill_value;
      }
      store_as(output.data, output.dtype, to + c * output.channel_stride, value);
    }
  }

  GRIDSAMPLE_DEVICE void finish_grad_grid() {
    const Walk& walk = params.sampling.walk;
    const View& source = params.grad_output;
    const int64_t place = offset_of<Config>(sample, source, walk);
    weight_t gradient[Config::kDims];
    set_zero(gradient);
    contract(
        taps,
        [&](int z, int y, int x) {
          weight_t product = {};
          if (!is_read(z, y, x)) return product;
          for (int64_t image = 0; image < params.images; ++image) {
            const int64_t batch = sample.batch + image;
            for (int64_t c = 0; c < params.channels; ++c) {
              const auto grad = load_as<compute_t>(
                  source.data, source.dtype,
                  batch * source.batch_stride + c * source.channel_stride + place);
              add_product(product, grad, pixel_at(batch, c, z, y, x));
            }
          }
          return product;
        },
        gradient);
    store_grad_grid<Config>(
        params.grad_grid, sample, walk,
        [&](int a) {
          if constexpr (moves) {
            return gradient[a].dot;
          } else {
            return gradient[a];
          }
        },
        [&](int a) { return taps.slope[a]; });
  }
};

template <typename Config, bool kMoves>
__global__ void __launch_bounds__(kThreads, 1)
    finish_kernel(const FinishParams<typename Config::compute_t> params) {
  const Walk& walk = params.sampling.walk;
  for (int64_t number = int64_t(blockIdx.x) * kThreads + threadIdx.x; number < walk.total;
       number += int64_t(gridDim.x) * kThreads) {
    const Sample sample = locate<Config>(number, walk);
    Finisher<Config, kMoves> finisher(params, sample);
    const bool mixed = finisher.inside && finisher.filled;
    if (params.grad_grid.data != nullptr) {
      if constexpr (Config::kSmooth) {
        if (mixed) finisher.finish_grad_grid();
      }
    } else if (mixed || (!kMoves && (finisher.filled || finisher.excluded))) {
      finisher.finish_output();
    }
  }
}

template <bool kMoves, typename compute_t>
void launch_finish(const FinishParams<compute_t>& params, const Geometry& geometry,
                   const Queue& queue) {
  Spread spread;
  spread.tiles = ceil_div(params.sampling.walk.total, kThreads);
  dispatch_mode<!kMoves>(geometry, [&]<int kDims, Mode kMode>() {
    using Config = Config<compute_t, kDims, kMode, int64_t, false>;
    launch("finish", finish_kernel<Config, kMoves>, spread, params, queue);
  });
}

}  // namespace

template <typename compute_t>
void finish(const FinishParams<compute_t>& params, const Geometry& geometry, const Queue& queue) {
  if (params.tangent_grid.data != nullptr) {
    launch_finish<true>(params, geometry, queue);
  } else {
    launch_finish<false>(params, geometry, queue);
  }
}

template void finish(const FinishParams<float>&, const Geometry&, const Queue&);
template void finish(const FinishParams<double>&, const Geometry&, const Queue&);

}  // namespace gridsample_ext::cuda
