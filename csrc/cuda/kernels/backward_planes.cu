// Both gradients, lanes over samples: for images of any strides. A thread has the taps of one
// sample and walks over channels; where samples are few, several threads share its channels, and
// their parts of grad_grid are added up in a fixed order. Without grad_grid, blocks share channels
// as well.

#include "cuda/device/config.cuh"
#include "cuda/device/launch.cuh"
#include "cuda/device/scatter.cuh"
#include "cuda/device/sums.cuh"
#include "cuda/kernels/kernels.cuh"

namespace gridsample_ext::cuda {
namespace {

/// Whether there is code of its own for warps in which no lanes are combined: in the kernels that
/// count.
template <typename Config>
constexpr bool kAddsApart =
    Config::kNarrow && std::is_same_v<typename Config::pixel_t, float> && Config::kAllTaps <= 8;

/// Channels that a thread has in hand at a time there, as registers allow. If it is one, all taps
/// of the warp have to be inside for that code to pay.
template <typename Config>
constexpr int kTogether = Config::kAllTaps <= 4 ? 4 : 1;

/// What one thread does for one sample: some of the channels of all its images.
template <typename Config>
struct PlanesBackward {
  using pixel_t = typename Config::pixel_t;
  using compute_t = typename Config::compute_t;
  // With few taps their products are summed over the channels first, and contracted once.
  static constexpr bool kFewTaps = Config::kAllTaps <= 16;

  const BackwardParams<compute_t>& params;
  const Pixels<pixel_t>& pixels;
  Taps<Config>& taps;
  const Sample& sample;
  bool active;

  /// Calls visit(grad, input, grad_input) for the thread's channels: a value and two planes.
  template <typename Visit>
  GRIDSAMPLE_DEVICE void for_each_channel(const Visit& visit) const {
    using number_t = typename Config::number_t;
    const auto channels = static_cast<number_t>(params.channels);
    const number_t step = blockDim.y * gridDim.y;
    const int64_t place = offset_of<Config>(sample, params.grad_output, params.sampling.walk);
    number_t c = blockIdx.y * blockDim.y + threadIdx.y;
    for (int64_t image = 0; image < params.images; ++image) {
      const int64_t batch = sample.batch + image;
      const auto* grad = plane_of<const pixel_t>(params.grad_output, batch, c) + place;
      const auto* input = plane_of<const pixel_t>(params.input, batch, c);
      auto* grad_input = plane_of<compute_t>(params.grad_input, batch, c);
      for (; c < channels; c += step) {
        visit(active ? pixels.load(grad) : compute_t(0), input, grad_input);
        grad += step * params.grad_output.channel_stride;
        input += step * params.input.channel_stride;
        grad_input += step * params.grad_input.channel_stride;
      }
      c -= channels;
    }
  }

  template <typename T>
  static GRIDSAMPLE_DEVICE T* plane_of(const View& view, int64_t batch, int64_t c) {
    return static_cast<T*>(view.data) + batch * view.batch_stride + c * view.channel_stride;
  }

  GRIDSAMPLE_DEVICE void run(compute_t (&gradient)[Config::kDims]) const {
    if constexpr (kFewTaps) {
      run_few_taps(gradient);
    } else {
      run_many_taps(gradient);
    }
  }

  GRIDSAMPLE_DEVICE void run_few_taps(compute_t (&gradient)[Config::kDims]) const {
    const bool wants_input = params.grad_input.data != nullptr;
    const bool wants_grid = params.grad_grid.data != nullptr;
    const FlatTaps<Taps<Config>> flat(taps);
    WarpPeers peers;
    if (wants_input) {
      peers = WarpPeers(taps, sample.batch * params.grad_input.batch_stride, active);
    }
    compute_t products[Config::kAllTaps];
    set_zero(products);
    if (peers.combine() || !add_apart(flat, products)) add_anywhere(flat, peers, products);
    if (wants_grid) {
      contract(
          taps, [&](int z, int y, int x) { return products[number_of_tap<Config>(z, y, x)]; },
          gradient);
    }
  }

  GRIDSAMPLE_DEVICE void add_anywhere(const FlatTaps<Taps<Config>>& flat, const WarpPeers& peers,
                                      compute_t (&products)[Config::kAllTaps]) const {
    const bool wants_input = params.grad_input.data != nullptr;
    const bool wants_grid = params.grad_grid.data != nullptr;
    for_each_channel([&](compute_t grad, const pixel_t* input, compute_t* grad_input) {
      if (wants_grid) {
        GRIDSAMPLE_UNROLL_ALL
        for (int tap = 0; tap < Config::kAllTaps; ++tap) {
          if (flat.offset[tap] >= 0) {
            products[tap] =
                multiply_add(grad, pixels.load(input + flat.offset[tap]), products[tap]);
          }
        }
      }
      if (!wants_input) return;
      if (peers.combine()) {
        GRIDSAMPLE_UNROLL_ALL
        for (int tap = 0; tap < Config::kAllTaps; ++tap) {
          const compute_t sum = peers.sum(flat.weight[tap] * grad);
          if (peers.leads() && flat.offset[tap] >= 0) atomicAdd(grad_input + flat.offset[tap], sum);
        }
      } else {
        GRIDSAMPLE_UNROLL_ALL
        for (int tap = 0; tap < Config::kAllTaps; ++tap) {
          if (flat.offset[tap] >= 0) {
            atomicAdd(grad_input + flat.offset[tap], flat.weight[tap] * grad);
          }
        }
      }
    });
  }

  /// Adds the gradients of a warp whose lanes are not combined, several channels at a time. Returns
  /// false, and adds nothing, if there is no code for such a warp.
  GRIDSAMPLE_DEVICE bool add_apart(const FlatTaps<Taps<Config>>& flat,
                                   compute_t (&products)[Config::kAllTaps]) const {
    if constexpr (kAddsApart<Config>) {
      bool inside = true;
      GRIDSAMPLE_UNROLL_ALL
      for (int tap = 0; tap < Config::kAllTaps; ++tap) inside = inside && flat.offset[tap] >= 0;
      if (__all_sync(kWholeWarp, inside)) {
        choose_channels<true>(flat, products);
        return true;
      }
      // Other paddings leave few taps outside.
      if constexpr (kTogether<Config> > 1 && Config::kPadsWithZeros) {
        choose_channels<false>(flat, products);
        return true;
      }
    }
    return false;
  }

  /// What is wanted is asked before the loop over channels.
  template <bool kInside>
  GRIDSAMPLE_DEVICE void choose_channels(const FlatTaps<Taps<Config>>& flat,
                                         compute_t (&products)[Config::kAllTaps]) const {
    if (params.grad_grid.data == nullptr) {
      add_channels<kInside, true, false>(flat, products);
    } else if constexpr (Config::kSmooth) {
      if (params.grad_input.data != nullptr) {
        add_channels<kInside, true, true>(flat, products);
      } else {
        add_channels<kInside, false, true>(flat, products);
      }
    }
  }

  /// Some channels at a time: all loads come before the additions.
  template <bool kInside, bool kWantsInput, bool kWantsGrid>
  GRIDSAMPLE_DEVICE void add_channels(const FlatTaps<Taps<Config>>& flat,
                                      compute_t (&products)[Config::kAllTaps]) const {
    const auto is_inside = [&](int tap) { return kInside || flat.offset[tap] >= 0; };
    const uint32_t step = blockDim.y * gridDim.y;
    const auto channels = static_cast<uint32_t>(params.channels);
    const int64_t place = offset_of<Config>(sample, params.grad_output, params.sampling.walk);
    const int64_t grad_step = step_in_bytes<pixel_t>(params.grad_output, step);
    const int64_t input_step = step_in_bytes<pixel_t>(params.input, step);
    const int64_t grad_input_step = step_in_bytes<compute_t>(params.grad_input, step);
    const auto images = static_cast<uint32_t>(params.images);
    uint32_t c = blockIdx.y * blockDim.y + threadIdx.y;
    for (uint32_t image = 0; image < images; ++image) {
      const int64_t batch = sample.batch + image;
      const auto* grads = plane_of<const pixel_t>(params.grad_output, batch, c) + place;
      const auto* input = plane_of<const pixel_t>(params.input, batch, c);
      auto* grad_input = plane_of<compute_t>(params.grad_input, batch, c);
      const auto add = [&]<int kCount>() {
        compute_t grad[kCount];
        GRIDSAMPLE_UNROLL_ALL
        for (int j = 0; j < kCount; ++j) {
          grad[j] = __ldcs(grads);
          grads = later(grads, grad_step);
        }
        if constexpr (kWantsGrid) {
          GRIDSAMPLE_UNROLL_ALL
          for (int j = 0; j < kCount; ++j) {
            compute_t pixel[Config::kAllTaps];
            GRIDSAMPLE_UNROLL_ALL
            for (int tap = 0; tap < Config::kAllTaps; ++tap) {
              if (!is_inside(tap)) continue;
              pixel[tap] = pixels.load(input + opaque(uint32_t(flat.offset[tap])));
            }
            GRIDSAMPLE_UNROLL_ALL
            for (int tap = 0; tap < Config::kAllTaps; ++tap) {
              if (is_inside(tap)) add_product(products[tap], grad[j], pixel[tap]);
            }
            input = later(input, input_step);
          }
        }
        if constexpr (kWantsInput) {
          GRIDSAMPLE_UNROLL_ALL
          for (int j = 0; j < kCount; ++j) {
            GRIDSAMPLE_UNROLL_ALL
            for (int tap = 0; tap < Config::kAllTaps; ++tap) {
              if (!is_inside(tap)) continue;
              atomicAdd(grad_input + opaque(uint32_t(flat.offset[tap])),
                        flat.weight[tap] * grad[j]);
            }
            grad_input = later(grad_input, grad_input_step);
          }
        }
        c += kCount * step;
      };
      if constexpr (kTogether<Config> > 1) {
        while (c + (kTogether<Config> - 1) * step < channels) {
          add.template operator()<kTogether<Config>>();
        }
      }
      while (c < channels) add.template operator()<1>();
      c -= channels;
    }
  }

  template <typename T>
  static GRIDSAMPLE_DEVICE int64_t step_in_bytes(const View& view, uint32_t step) {
    return opaque(step * view.channel_stride * int64_t(sizeof(T)));
  }

  template <typename T>
  static GRIDSAMPLE_DEVICE T* later(T* pointer, int64_t bytes) {
    using byte_t = std::conditional_t<std::is_const_v<T>, const char, char>;
    return reinterpret_cast<T*>(reinterpret_cast<byte_t*>(pointer) + bytes);
  }

  GRIDSAMPLE_DEVICE void run_many_taps(compute_t (&gradient)[Config::kDims]) const {
    const bool wants_input = params.grad_input.data != nullptr;
    const bool wants_grid = params.grad_grid.data != nullptr;
    for_each_channel([&](compute_t grad, const pixel_t* input, compute_t* grad_input) {
      const auto visit_tap = [&](int z, int y, int x) {
        const auto offset = offset_of_tap(taps, z, y, x);
        if (offset < 0) return compute_t(0);
        if (wants_input) atomicAdd(grad_input + offset, weight_of_tap(taps, z, y, x) * grad);
        return wants_grid ? grad * pixels.load(input + offset) : compute_t(0);
      };
      contract(taps, visit_tap, gradient);
    });
  }
};

/// Blocks of a multiprocessor that registers leave room for, without spills.
template <typename Config>
constexpr int kBlocks = Config::kAllTaps == 1  ? 4
                        : Config::kAllTaps > 8 ? (sizeof(typename Config::compute_t) == 8 ? 1 : 2)
                        : sizeof(typename Config::compute_t) == 8 ? 2
                        : Config::kDims == 3                      ? (Config::kNarrow ? 3 : 2)
                                                                  : (Config::kNarrow ? 4 : 3);

template <typename Config>
__global__ void __launch_bounds__(kThreads, kBlocks<Config>)
    backward_planes_kernel(const BackwardParams<typename Config::compute_t> params) {
  using compute_t = typename Config::compute_t;
  const Pixels<typename Config::pixel_t> pixels(params.input.dtype);
  const Walk& walk = params.sampling.walk;
  auto* parts = static_cast<compute_t*>(shared_memory());  // [slice][axis][sample]
  using number_t = typename Config::number_t;
  const auto total = static_cast<number_t>(walk.total);
  const number_t place = threadIdx.x;
  const number_t width = blockDim.x;
  const int slices = static_cast<int>(blockDim.y);
  const auto part = [&](int slice, int a) -> compute_t& {
    return parts[(slice * Config::kDims + a) * width + place];
  };
  // Whole warps go round together, for what they do in common.
  for (number_t first = blockIdx.x * width; first < total; first += gridDim.x * width) {
    const bool active = first + place < total;
    const Sample sample = locate<Config>(active ? first + place : total - 1, walk);
    Taps<Config> taps;
    compute_taps(taps, sample, params.sampling, params.input);
    if (!active) {
      GRIDSAMPLE_UNROLL_ALL
      for (int k = 0; k < Config::kTaps; ++k) taps.offset[0][k] = portable::kOutside;
    }
    compute_t gradient[Config::kDims];
    set_zero(gradient);
    PlanesBackward<Config>{params, pixels, taps, sample, active}.run(gradient);
    if (params.grad_grid.data == nullptr) continue;
    if (slices > 1) {
      const int slice = static_cast<int>(threadIdx.y);
      GRIDSAMPLE_UNROLL_ALL
      for (int a = 0; a < Config::kDims; ++a) part(slice, a) = gradient[a];
      __syncthreads();
      if (slice == 0) {
        for (int other = 1; other < slices; ++other) {
          GRIDSAMPLE_UNROLL_ALL
          for (int a = 0; a < Config::kDims; ++a) gradient[a] += part(other, a);
        }
      }
      __syncthreads();
    }
    if (active && threadIdx.y == 0) {
      store_grad_grid<Config>(
          params.grad_grid, sample, walk, [&](int a) { return gradient[a]; },
          [&](int a) { return taps.slope[a]; });
    }
  }
}

}  // namespace

template <typename compute_t>
void backward_planes(BackwardParams<compute_t> params, const Geometry& geometry, bool narrow,
                     const Queue& queue) {
  const int64_t samples = params.sampling.walk.total;
  int slices = 1;
  while (slices < kThreads / kWarpSize && 2 * slices <= params.images * params.channels &&
         ceil_div(samples, kThreads / slices) < queue.wanted_blocks()) {
    slices *= 2;
  }
  Spread spread;
  spread.threads = dim3(kThreads / slices, slices);
  spread.tiles = ceil_div(samples, kThreads / slices);
  // grad_grid has one block for all channels of a sample, which adds up.
  if (params.grad_grid.data == nullptr) {
    spread.share_channels(ceil_div(params.channels, slices), queue);
  }
  spread.shared_bytes = slices > 1 ? sizeof(compute_t) * geometry.dims * kThreads : 0;
  dispatch<kBackwardKernels, compute_t>(
      geometry, params.input.dtype, narrow, [&]<typename Config>() {
        launch("backward_planes", backward_planes_kernel<Config>, spread, params, queue);
      });
}

template void backward_planes(BackwardParams<float>, const Geometry&, bool, const Queue&);
template void backward_planes(BackwardParams<double>, const Geometry&, bool, const Queue&);

}  // namespace gridsample_ext::cuda
