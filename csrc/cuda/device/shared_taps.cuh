#pragma once

// The taps of a tile of samples in shared memory, for kernels with lanes over channels: every
// thread computes the taps of one sample, and then reads those of the samples whose channels it has
// a share in. Threads that share a sample read one word, which is broadcast; in between lie whole
// rows of one entry, so that neither way banks conflict.

#include "cuda/device/launch.cuh"
#include "cuda/device/taps.cuh"

namespace gridsample_ext::cuda {

template <typename Config, bool kDerivatives>
struct SharedTaps {
  using compute_t = typename Config::compute_t;
  using index_t = typename Config::index_t;
  static constexpr int kPerAxis = Config::kDims * Config::kTaps;
  // Those of two taps are -1 and 1, and that of one is 0.
  static constexpr bool kStoresDerivatives = kDerivatives && Config::kCurved;
  // Weights, derivatives; the slope and the gradient along each axis.
  static constexpr int kValues =
      kPerAxis * (kStoresDerivatives ? 2 : 1) + (kDerivatives ? 2 * Config::kDims : 0);
  /// Numbers that the kernel keeps beside a sample's taps.
  static constexpr int kPlaces = kDerivatives ? 2 : 1;
  /// Of one sample.
  static constexpr size_t kBytes =
      kPlaces * sizeof(int64_t) + kPerAxis * sizeof(index_t) + kValues * sizeof(compute_t);
  /// As many samples as fit.
  static constexpr int kMostSamples = kBytes * 256 <= 48 * 1024 ? 256 : 128;
  static_assert(kBytes * kMostSamples <= 48 * 1024);

  GRIDSAMPLE_DEVICE SharedTaps(void* memory, int tile)
      : tile_(tile),
        places_(static_cast<int64_t*>(memory)),
        values_(reinterpret_cast<compute_t*>(places_ + kPlaces * tile)),
        offsets_(reinterpret_cast<index_t*>(values_ + kValues * tile)) {}

  GRIDSAMPLE_DEVICE void store(int i, const Taps<Config>& taps) {
    GRIDSAMPLE_UNROLL_ALL
    for (int a = 0; a < Config::kDims; ++a) {
      GRIDSAMPLE_UNROLL_ALL
      for (int k = 0; k < Config::kTaps; ++k) {
        const int entry = a * Config::kTaps + k;
        offsets_[entry * tile_ + i] = taps.offset[a][k];
        values_[entry * tile_ + i] = taps.weight[a][k];
        if constexpr (kStoresDerivatives) {
          values_[(kPerAxis + entry) * tile_ + i] = taps.derivative[a][k];
        }
      }
      if constexpr (kDerivatives) {
        values_[slope_entry(a) * tile_ + i] = taps.slope[a];
        gradient(i, a) = compute_t(0);
      }
    }
  }

  GRIDSAMPLE_DEVICE void load(int i, Taps<Config>& taps) const {
    GRIDSAMPLE_UNROLL_ALL
    for (int a = 0; a < Config::kDims; ++a) {
      GRIDSAMPLE_UNROLL_ALL
      for (int k = 0; k < Config::kTaps; ++k) {
        const int entry = a * Config::kTaps + k;
        taps.offset[a][k] = offsets_[entry * tile_ + i];
        taps.weight[a][k] = values_[entry * tile_ + i];
        if constexpr (kStoresDerivatives) {
          taps.derivative[a][k] = values_[(kPerAxis + entry) * tile_ + i];
        } else {
          taps.derivative[a][k] = compute_t(Config::kSmooth ? 2 * k - 1 : 0);
        }
      }
    }
  }

  GRIDSAMPLE_DEVICE compute_t slope(int i, int a) const {
    return values_[slope_entry(a) * tile_ + i];
  }

  /// d / d coordinate, 0 to begin with.
  GRIDSAMPLE_DEVICE compute_t& gradient(int i, int a) {
    return values_[(slope_entry(a) + Config::kDims) * tile_ + i];
  }

  GRIDSAMPLE_DEVICE int64_t& place(int i, int which = 0) { return places_[which * tile_ + i]; }

  /// Whether two samples have all taps in common.
  GRIDSAMPLE_DEVICE bool same(int i, int j) const {
    bool same = true;
    GRIDSAMPLE_UNROLL_ALL
    for (int entry = 0; entry < kPerAxis; ++entry) {
      same = same && offsets_[entry * tile_ + i] == offsets_[entry * tile_ + j];
    }
    return same;
  }

 private:
  static GRIDSAMPLE_DEVICE constexpr int slope_entry(int a) {
    return kValues - 2 * Config::kDims + a;
  }

  int tile_;
  int64_t* places_;
  compute_t* values_;
  index_t* offsets_;
};

/// A thread's place among those of a block that share samples.
struct GroupMember {
  int thread;
  int lane;    // among the threads of its group
  int group;   // which share a sample
  int groups;  // of the block

  GRIDSAMPLE_DEVICE explicit GroupMember(int lanes)
      : thread(static_cast<int>(threadIdx.x)),
        lane(thread & (lanes - 1)),
        group(thread / lanes),
        groups(kThreads / lanes) {}
};

/// The taps of the samples from `first` on, a thread each, as far as tile and walk go; returns how
/// many they are. keep(thread, sample) notes what else the kernel needs. Ends with a barrier.
template <typename Config, bool kDerivatives, typename Keep>
GRIDSAMPLE_DEVICE int fill_tile(SharedTaps<Config, kDerivatives>& shared, int tile, int64_t first,
                                const Sampling<typename Config::compute_t>& sampling,
                                const View& view, const Keep& keep) {
  const int64_t left = sampling.walk.total - first;
  const int count = left < tile ? static_cast<int>(left) : tile;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < count) {
    const Sample sample = locate<Config>(first + thread, sampling.walk);
    Taps<Config> taps;
    compute_taps(taps, sample, sampling, view);
    shared.store(thread, taps);
    keep(thread, sample);
  }
  __syncthreads();
  return count;
}

/// How threads share the channels of a sample in rows of vectors: a power of two of them, up to a
/// warp, as many as leave at most an eighth idle.
inline int lanes_for(int64_t vectors) {
  int lanes = kWarpSize;
  while (lanes > 1) {
    const int64_t slots = ceil_div(vectors, lanes) * lanes;
    if (slots - vectors <= slots / 8) break;
    lanes /= 2;
  }
  return lanes;
}

/// Has a block take as many samples at a time as it has threads; fewer where that leaves
/// multiprocessors without a block, but one for each of the groups that share a sample.
template <typename Shared, typename Params>
Spread spread_in_tiles(Params& params, int64_t vectors, const Queue& queue) {
  const int64_t samples = params.sampling.walk.total;
  params.lanes = lanes_for(vectors);
  params.tile = Shared::kMostSamples;
  while (params.tile > kThreads / params.lanes &&
         ceil_div(samples, params.tile) < queue.wanted_blocks()) {
    params.tile /= 2;
  }
  Spread spread;
  spread.tiles = params.tiles = ceil_div(samples, params.tile);
  spread.shared_bytes = Shared::kBytes * params.tile;
  return spread;
}

}  // namespace gridsample_ext::cuda
