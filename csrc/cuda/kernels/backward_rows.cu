// Both gradients, lanes over channels: for channels-last images. As in the forward pass a block
// computes the taps of a tile of samples, and groups of threads take the samples, here several that
// follow each other: while these have all taps in common, their contributions to grad_input are
// added up in registers.

#include "cuda/device/config.cuh"
#include "cuda/device/scatter.cuh"
#include "cuda/device/shared_taps.cuh"
#include "cuda/device/sums.cuh"
#include "cuda/kernels/kernels.cuh"

namespace gridsample_ext::cuda {
namespace {

/// Sums for the taps of the samples at hand, kept in registers until the taps change.
template <typename Config, int kVector>
struct HeldRows {
  using compute_t = typename Config::compute_t;
  typename Config::index_t offset[Config::kAllTaps];
  compute_t sums[Config::kAllTaps][kVector];

  /// Nothing to flush.
  GRIDSAMPLE_DEVICE HeldRows() {
    GRIDSAMPLE_UNROLL_ALL
    for (int tap = 0; tap < Config::kAllTaps; ++tap) {
      offset[tap] = portable::kOutside;
      set_zero(sums[tap]);
    }
  }

  GRIDSAMPLE_DEVICE void start(const FlatTaps<Taps<Config>>& taps) {
    GRIDSAMPLE_UNROLL_ALL
    for (int tap = 0; tap < Config::kAllTaps; ++tap) {
      offset[tap] = taps.offset[tap];
      set_zero(sums[tap]);
    }
  }

  GRIDSAMPLE_DEVICE void add(const FlatTaps<Taps<Config>>& taps, const compute_t (&grad)[kVector]) {
    GRIDSAMPLE_UNROLL_ALL
    for (int tap = 0; tap < Config::kAllTaps; ++tap) add_product(sums[tap], taps.weight[tap], grad);
  }

  GRIDSAMPLE_DEVICE void flush(compute_t* image) const {
    GRIDSAMPLE_UNROLL_ALL
    for (int tap = 0; tap < Config::kAllTaps; ++tap) {
      if (offset[tap] >= 0) add_row(image + offset[tap], sums[tap]);
    }
  }
};

template <typename Config>
struct RowsBackward {
  using pixel_t = typename Config::pixel_t;
  using compute_t = typename Config::compute_t;
  static constexpr int kVector = kBackwardVector<compute_t>;
  static constexpr bool kHolds = Config::kAllTaps <= 8;

  const BackwardParams<compute_t>& params;
  const Pixels<pixel_t>& pixels;
  SharedTaps<Config, true>& shared;
  int lane;  // of those that share a sample

  /// `turns` samples of the tile from `begin` on, as far as there are `count`; channels c of one
  /// image. Lanes without samples or channels come along: for the shuffles all have to be there.
  GRIDSAMPLE_DEVICE void run(int begin, int turns, int count, int64_t image, int64_t c) {
    const bool wants_input = params.grad_input.data != nullptr;
    const bool wants_grid = params.grad_grid.data != nullptr;
    const bool has_channels = c < params.channels;
    const auto* grad_output = static_cast<const pixel_t*>(params.grad_output.data) +
                              image * params.grad_output.batch_stride + c;
    const auto* input = static_cast<const pixel_t*>(params.input.data) + c;
    compute_t* grad_input =
        wants_input ? static_cast<compute_t*>(params.grad_input.data) + c : nullptr;
    std::conditional_t<kHolds, HeldRows<Config, kVector>, int> held = {};
    compute_t* held_image = nullptr;
    for (int turn = 0; turn < turns; ++turn) {
      const bool active = has_channels && begin + turn < count;
      const int i = begin + turn < count ? begin + turn : count - 1;
      Taps<Config> taps;
      shared.load(i, taps);
      const int64_t batch = shared.place(i, 0) + image;
      compute_t grad[kVector];
      set_zero(grad);
      if (active) pixels.load(grad_output + shared.place(i, 1), grad);
      if (wants_input && active) {
        compute_t* to = grad_input + batch * params.grad_input.batch_stride;
        if constexpr (kHolds) {
          const FlatTaps<Taps<Config>> flat(taps);
          if (turn == 0 || to != held_image || !shared.same(i, i - 1)) {
            held.flush(held_image);
            held.start(flat);
            held_image = to;
          }
          held.add(flat, grad);
        } else {
          for_each_tap(taps, [&](int z, int y, int x) {
            const auto offset = offset_of_tap(taps, z, y, x);
            if (offset < 0) return;
            compute_t part[kVector];
            set_zero(part);
            add_product(part, weight_of_tap(taps, z, y, x), grad);
            add_row(to + offset, part);
          });
        }
      }
      if (wants_grid) {
        add_gradient(i, taps, grad, input + batch * params.input.batch_stride, active);
      }
    }
    if constexpr (kHolds) {
      if (wants_input && has_channels) held.flush(held_image);
    } else {
      static_cast<void>(held);
    }
  }

  GRIDSAMPLE_DEVICE void add_gradient(int i, Taps<Config>& taps, const compute_t (&grad)[kVector],
                                      const pixel_t* input, bool active) {
    compute_t gradient[Config::kDims];
    set_zero(gradient);
    const auto product = [&](int z, int y, int x) {
      const auto offset = offset_of_tap(taps, z, y, x);
      compute_t sum = 0;
      if (offset >= 0 && active) {
        compute_t pixel[kVector];
        pixels.load(input + offset, pixel);
        GRIDSAMPLE_UNROLL_ALL
        for (int v = 0; v < kVector; ++v) sum = multiply_add(grad[v], pixel[v], sum);
      }
      return sum;
    };
    contract(taps, product, gradient);
    GRIDSAMPLE_UNROLL_ALL
    for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
      if (distance < params.lanes) {
        GRIDSAMPLE_UNROLL_ALL
        for (int a = 0; a < Config::kDims; ++a) {
          gradient[a] += __shfl_xor_sync(kWholeWarp, gradient[a], distance);
        }
      }
    }
    if (lane == 0 && active) {
      GRIDSAMPLE_UNROLL_ALL
      for (int a = 0; a < Config::kDims; ++a) shared.gradient(i, a) += gradient[a];
    }
  }
};

template <typename Config>
__global__ void __launch_bounds__(kThreads, 1)
    backward_rows_kernel(const BackwardParams<typename Config::compute_t> params) {
  using compute_t = typename Config::compute_t;
  const Walk& walk = params.sampling.walk;
  const int tile = params.tile;
  SharedTaps<Config, true> shared(shared_memory(), tile);
  const GroupMember member(params.lanes);
  const int64_t step = int64_t(params.lanes) * kBackwardVector<compute_t>;
  const Pixels<typename Config::pixel_t> pixels(params.input.dtype);
  RowsBackward<Config> rows{params, pixels, shared, member.lane};

  for (int64_t number = blockIdx.x; number < params.tiles; number += gridDim.x) {
    const int64_t first = number * tile;
    const int count = fill_tile(
        shared, tile, first, params.sampling, params.input, [&](int i, const Sample& sample) {
          shared.place(i, 0) = sample.batch;
          shared.place(i, 1) = sample.batch * params.grad_output.batch_stride +
                               offset_of<Config>(sample, params.grad_output, walk);
        });
    // The same for all groups, and so for all lanes of a warp.
    const int turns = (count + member.groups - 1) / member.groups;
    for (int64_t image = 0; image < params.images; ++image) {
      for (int64_t c = blockIdx.y * step; c < params.channels; c += gridDim.y * step) {
        rows.run(member.group * turns, turns, count, image,
                 c + member.lane * kBackwardVector<compute_t>);
      }
    }
    __syncthreads();
    if (member.thread < count && params.grad_grid.data != nullptr) {
      store_grad_grid<Config>(
          params.grad_grid, locate<Config>(first + member.thread, walk), walk,
          [&](int a) { return shared.gradient(member.thread, a); },
          [&](int a) { return shared.slope(member.thread, a); });
    }
    __syncthreads();  // before the next tile's taps replace these
  }
}

}  // namespace

template <typename compute_t>
void backward_rows(BackwardParams<compute_t> params, const Geometry& geometry, bool narrow,
                   const Queue& queue) {
  const int64_t vectors = params.channels / kBackwardVector<compute_t>;
  dispatch<kBackwardKernels, compute_t>(
      geometry, params.input.dtype, narrow, [&]<typename Config>() {
        Spread spread = spread_in_tiles<SharedTaps<Config, true>>(params, vectors, queue);
        // grad_grid has one block for all channels of a sample, which adds up.
        if (params.grad_grid.data == nullptr) {
          spread.share_channels(ceil_div(vectors, params.lanes), queue);
        }
        launch("backward_rows", backward_rows_kernel<Config>, spread, params, queue);
      });
}

template void backward_rows(BackwardParams<float>, const Geometry&, bool, const Queue&);
template void backward_rows(BackwardParams<double>, const Geometry&, bool, const Queue&);

}  // namespace gridsample_ext::cuda
