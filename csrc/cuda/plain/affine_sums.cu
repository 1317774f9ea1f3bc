// The gradient of a warp's affine map: sums over all samples of an image, in float64. One block for
// each chunk of an image's samples, then one thread for each number of a map.

#include "cuda/device/coordinates.cuh"
#include "cuda/device/launch.cuh"
#include "cuda/kernels/kernels.cuh"

namespace gridsample_ext::cuda {
namespace {

template <int kDims>
constexpr int kNumbers = kDims * (kDims + 1);

template <typename compute_t, int kDims>
__global__ void __launch_bounds__(kThreads)
    sum_chunks_kernel(const AffineSumsParams<compute_t> params) {
  auto* sums = static_cast<double*>(shared_memory());  // [number][thread]
  const View& view = params.grad_grid;
  for (int64_t block = blockIdx.x; block < params.images * params.chunks; block += gridDim.x) {
    const int64_t image = block / params.chunks;
    const int64_t chunk = block - image * params.chunks;
    const int64_t end = (chunk + 1) * params.samples / params.chunks;
    double sum[kDims][kDims + 1] = {};
    for (int64_t number = chunk * params.samples / params.chunks + threadIdx.x; number < end;
         number += kThreads) {
      int64_t pixel[kMaxDims];
      find_pixel<kDims>(number, params.output_size, pixel);
      int64_t offset = image * view.batch_stride;
      double place[kDims];
      GRIDSAMPLE_UNROLL_ALL
      for (int a = 0; a < kDims; ++a) {
        offset += pixel[a] * view.stride[a];
        place[a] = params.places[a].at(static_cast<compute_t>(pixel[a]));
      }
      GRIDSAMPLE_UNROLL_ALL
      for (int a = 0; a < kDims; ++a) {
        const double grad =
            static_cast<const compute_t*>(view.data)[offset + a * view.channel_stride];
        GRIDSAMPLE_UNROLL_ALL
        for (int b = 0; b < kDims; ++b) sum[a][b] += grad * place[b];
        sum[a][kDims] += grad;
      }
    }
    GRIDSAMPLE_UNROLL_ALL
    for (int a = 0; a < kDims; ++a) {
      GRIDSAMPLE_UNROLL_ALL
      for (int b = 0; b <= kDims; ++b) {
        sums[(a * (kDims + 1) + b) * kThreads + threadIdx.x] = sum[a][b];
      }
    }
    __syncthreads();
    for (int half = kThreads / 2; half > 0; half /= 2) {
      if (static_cast<int>(threadIdx.x) < half) {
        GRIDSAMPLE_UNROLL_ALL
        for (int n = 0; n < kNumbers<kDims>; ++n) {
          double* of_number = sums + n * kThreads + threadIdx.x;
          of_number[0] += of_number[half];
        }
      }
      __syncthreads();
    }
    if (threadIdx.x < kNumbers<kDims>) {
      params.partial[block * kNumbers<kDims> + threadIdx.x] = sums[threadIdx.x * kThreads];
    }
    __syncthreads();
  }
}

template <typename compute_t, int kDims>
__global__ void __launch_bounds__(kThreads)
    add_chunks_kernel(const AffineSumsParams<compute_t> params) {
  const int64_t chunks = params.images * params.chunks / params.maps;
  for (int64_t number = int64_t(blockIdx.x) * kThreads + threadIdx.x;
       number < params.maps * kNumbers<kDims>; number += int64_t(gridDim.x) * kThreads) {
    const int64_t map = number / kNumbers<kDims>;
    const double* partial = params.partial + map * chunks * kNumbers<kDims>;
    double sum = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      sum += partial[chunk * kNumbers<kDims> + number - map * kNumbers<kDims>];
    }
    params.total[number] = sum;
  }
}

}  // namespace

template <typename compute_t>
void affine_sums(const AffineSumsParams<compute_t>& params, int dims, const Queue& queue) {
  const auto with_dims = [&]<int kDims>() {
    Spread spread;
    spread.tiles = params.images * params.chunks;
    spread.shared_bytes = kNumbers<kDims> * kThreads * sizeof(double);
    launch("affine_sums", sum_chunks_kernel<compute_t, kDims>, spread, params, queue);
    spread.tiles = ceil_div(params.maps * kNumbers<kDims>, kThreads);
    spread.shared_bytes = 0;
    launch("affine_sums", add_chunks_kernel<compute_t, kDims>, spread, params, queue);
  };
  dims == 2 ? with_dims.template operator()<2>() : with_dims.template operator()<3>();
}

template void affine_sums(const AffineSumsParams<float>&, int, const Queue&);
template void affine_sums(const AffineSumsParams<double>&, int, const Queue&);

}  // namespace gridsample_ext::cuda
