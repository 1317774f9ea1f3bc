#pragma once

// How the threads of the second-order kernels share the channels of samples, whatever the strides:
// `lanes` threads side by side, a power of two up to a warp, have one sample. Where channels are
// innermost in memory they read side by side, too; each computes the taps, which its share of the
// channels has to be worth.

#include "cuda/device/launch.cuh"

namespace gridsample_ext::cuda {

/// A thread's place among those that share a sample.
struct ChannelLanes {
  int lane;
  int lanes;

  GRIDSAMPLE_DEVICE explicit ChannelLanes(int lanes_of_sample)
      : lane(static_cast<int>(threadIdx.x) & (lanes_of_sample - 1)), lanes(lanes_of_sample) {}

  /// The same for the whole block.
  GRIDSAMPLE_DEVICE int64_t first_sample_of_block() const {
    return int64_t(blockIdx.x) * (kThreads / lanes);
  }
  GRIDSAMPLE_DEVICE int64_t first_sample() const {
    return first_sample_of_block() + static_cast<int>(threadIdx.x) / lanes;
  }
  GRIDSAMPLE_DEVICE int64_t sample_step() const { return int64_t(gridDim.x) * (kThreads / lanes); }

  GRIDSAMPLE_DEVICE int64_t first_channel() const { return int64_t(blockIdx.y) * lanes + lane; }
  GRIDSAMPLE_DEVICE int64_t channel_step() const { return int64_t(gridDim.y) * lanes; }
};

constexpr int64_t kChannelsWorthTaps = 4;

/// innermost: whether channels are side by side in memory. Else samples are, and share a sample's
/// channels only where samples alone would not keep the device busy.
inline int lanes_of_channels(int64_t samples, int64_t channels, bool innermost,
                             const Queue& queue) {
  int lanes = 1;
  const auto too_few_blocks = [&] {
    return ceil_div(samples * lanes, kThreads) < queue.wanted_blocks();
  };
  while (lanes < kWarpSize && ((innermost && 2 * lanes * kChannelsWorthTaps <= channels) ||
                               (2 * lanes <= channels && too_few_blocks()))) {
    lanes *= 2;
  }
  return lanes;
}

/// channels: of which blocks may take parts; 1 where they may not.
inline Spread spread_over_lanes(int64_t samples, int64_t channels, int lanes, const Queue& queue) {
  Spread spread;
  spread.tiles = ceil_div(samples, kThreads / lanes);
  spread.share_channels(ceil_div(channels, kChannelsWorthTaps * lanes), queue);
  return spread;
}

}  // namespace gridsample_ext::cuda
