#pragma once

// Adding to grad_input, which many samples do to one pixel at a time.

#include "cuda/device/taps.cuh"

namespace gridsample_ext::cuda {

/// kCount channels side by side, aligned to their size. Compute capability 9.0 adds them in one
/// operation.
template <int kCount>
GRIDSAMPLE_DEVICE void add_row(float* to, const float (&values)[kCount]) {
  static_assert(kCount == 4);
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  GRIDSAMPLE_UNROLL_ALL
  for (int i = 0; i < kCount; ++i) atomicAdd(to + i, values[i]);
#else
  atomicAdd(reinterpret_cast<float4*>(to), make_float4(values[0], values[1], values[2], values[3]));
#endif
}

template <int kCount>
GRIDSAMPLE_DEVICE void add_row(double* to, const double (&values)[kCount]) {
  GRIDSAMPLE_UNROLL_ALL
  for (int i = 0; i < kCount; ++i) atomicAdd(to + i, values[i]);
}

/// Which lanes of a warp have all their taps in common, so that their contributions can be added up
/// before one of them goes to memory. All lanes of the warp have to take part in all of it.
///
/// Peers are added up in pairs, pairs in pairs and so on; which lane takes what from which, in each
/// round, is worked out once.
class WarpPeers {
 public:
  /// Nothing is combined.
  WarpPeers() = default;

  template <typename Config>
  GRIDSAMPLE_DEVICE WarpPeers(const Taps<Config>& taps, int64_t batch, bool active) {
    const int lane = static_cast<int>(threadIdx.x % kWarpSize);
    const unsigned before = (1u << lane) - 1;
    // The places of first taps tell most lanes apart.
    auto first = taps.offset[0][0];
    GRIDSAMPLE_UNROLL_ALL
    for (int a = 1; a < Config::kDims; ++a) first += taps.offset[a][0];
    unsigned peers = __match_any_sync(kWholeWarp, first);
    if (are_too_few(peers & before)) return;
    peers &= __match_any_sync(kWholeWarp, static_cast<unsigned long long>(active ? batch : -1));
    GRIDSAMPLE_UNROLL_ALL
    for (int a = 0; a < Config::kDims; ++a) {
      GRIDSAMPLE_UNROLL_ALL
      for (int k = 0; k < Config::kTaps; ++k) {
        // Between lanes whose first taps agree the others nearly always do, but at the borders
        // padding may tell them apart.
        peers &= __match_any_sync(kWholeWarp, taps.offset[a][k]);
      }
    }
    const unsigned below = peers & before;
    if (are_too_few(below)) return;
    leads_ = below == 0;
    int rank = __popc(below);
    unsigned above = lane == kWarpSize - 1 ? 0 : peers & (~0u << (lane + 1));
    GRIDSAMPLE_UNROLL_ALL
    for (int round = 0; round < kMostRounds; ++round) {
      if (__any_sync(kWholeWarp, above != 0)) rounds_ = round + 1;
      const int next = __ffs(above) - 1;
      source_[round] = next < 0 ? lane : next;
      // Of those left, every other one has been added to the one before it.
      above &= __ballot_sync(kWholeWarp, (rank & 1) == 0);
      rank >>= 1;
    }
  }

  /// Memory adds for a few lanes faster than they do: only where each sends for two on average.
  static GRIDSAMPLE_DEVICE bool are_too_few(unsigned peers_below) {
    return __popc(__ballot_sync(kWholeWarp, peers_below == 0)) > kWarpSize / 2;
  }

  /// The same for the whole warp.
  GRIDSAMPLE_DEVICE bool combine() const { return rounds_ > 0; }

  /// Whether this lane is the first of its peers.
  GRIDSAMPLE_DEVICE bool leads() const { return leads_; }

  /// The sum over this lane's peers, on the first of them; meaningless on the others.
  template <typename T>
  GRIDSAMPLE_DEVICE T sum(T value) const {
    const int lane = static_cast<int>(threadIdx.x % kWarpSize);
    GRIDSAMPLE_UNROLL_ALL
    for (int round = 0; round < kMostRounds; ++round) {
      if (round >= rounds_) break;
      const T theirs = __shfl_sync(kWholeWarp, value, source_[round]);
      if (source_[round] != lane) value += theirs;
    }
    return value;
  }

 private:
  static constexpr int kMostRounds = 5;  // for 32 lanes
  int rounds_ = 0;
  int source_[kMostRounds] = {};  // this lane itself, where there is nothing to add
  bool leads_ = true;
};

}  // namespace gridsample_ext::cuda
