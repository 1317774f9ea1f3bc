#pragma once

// How work is divided among threads. None of it changes a result: see cpu/work.h.

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "cpu/threads/flush.h"
#include "cpu/threads/fork.h"
#include "cpu/work.h"
#include "cpu/threads/stack.h"

namespace gridsample_ext {

/// Work below this many (sample, channel, tap) triples per thread is not worth waking one: about
/// 10 microseconds' worth.
constexpr int64_t kMinWorkPerThread = 16384;

inline int64_t taps_per_sample(const Geometry& geometry) {
  const int64_t per_axis = geometry.mode == Mode::kNearest    ? 1
                           : geometry.mode == Mode::kBilinear ? 2
                                                              : 4;
  return geometry.dims == 2 ? per_axis * per_axis : per_axis * per_axis * per_axis;
}

/// What plain kernels take for a sample, for each of its taps, and for each channel of these, in
/// units of copying one channel of one pixel. Measured where copies stay in the cache and are
/// cheap.
struct PlainCost {
  int64_t sample;
  int64_t tap;
  int64_t value;
};
constexpr PlainCost kPlainRead{120, 0, 10};
constexpr PlainCost kPlainAdd{120, 100, 10};  // taps are listed and sorted, too

/// Whether the samples of a call are so few that plain kernels (plain.h) take less time than it
/// takes to copy the image, of `images` of them, for vectors to do the rest. Decided by the shapes
/// alone.
inline bool has_few_samples(const Geometry& geometry, int64_t images, const PlainCost& cost) {
  const int64_t per_tap = cost.tap + cost.value * geometry.channels;
  const int64_t per_sample = cost.sample + per_tap * taps_per_sample(geometry);
  return geometry.batch * geometry.samples * per_sample <
         images * packed_elements(geometry, geometry.channels);
}

/// What computing a sample's taps costs, in units of reading one pixel.
constexpr int64_t kTapCost = 4;

/// Asked for here alone.
inline int64_t most_threads() { return is_forked() ? 1 : torch::stable::get_num_threads(); }

/// The threads that a backward or forward pass over the whole problem can keep busy.
inline int64_t useful_threads(const Geometry& geometry) {
  const int64_t work = geometry.batch * geometry.samples *
                       (geometry.channels * taps_per_sample(geometry) + kTapCost);
  return std::clamp<int64_t>(work / kMinWorkPerThread, 1, most_threads());
}

/// Runs f(worker, begin, end) over [0, items) on at most `workers` threads of PyTorch's pool, each
/// a worker of its own. They take turns at the next few items: a thread that the machine holds up
/// does not hold up the others. They have stack enough for a kernel, and treat subnormal numbers as
/// the caller does.
template <typename F>
void run_items(int64_t items, int64_t workers, const F& f) {
  workers = std::min(workers, items);
  if (workers <= 1) {
    if (items > 0) with_kernel_stack([&] { f(int64_t(0), int64_t(0), items); });
    return;
  }
  const uint64_t flush = flush_bits();
  const int64_t share = std::max<int64_t>(1, items / (workers * 8));
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, workers, 1, [&](int64_t first, int64_t last) {
    const FlushLike caller(flush);
    with_kernel_stack([&] {
      for (int64_t worker = first; worker < last; ++worker) {
        for (int64_t begin = next.fetch_add(share); begin < items; begin = next.fetch_add(share)) {
          f(worker, begin, std::min(begin + share, items));
        }
      }
    });
  });
}

/// With this many items the threads' shares differ by a quarter at most.
inline int64_t enough_items(int64_t threads) { return threads * 4; }

/// Tiles taken together: nearest from planes, as far as that leaves items enough for all threads.
inline int64_t forward_run_tiles(const Geometry& geometry, int64_t threads, bool rows) {
  if (geometry.mode != Mode::kNearest || rows) return 1;
  const int64_t tiles = tile_count(geometry);
  return std::clamp<int64_t>(geometry.batch * tiles / enough_items(threads), 1,
                             std::min<int64_t>(nearest_run(geometry), tiles));
}

/// Enough items for all threads, and few enough that each shares the taps of a run of tiles among
/// many channels.
inline int64_t forward_channel_blocks(const Geometry& geometry, int64_t runs, int64_t threads) {
  constexpr int64_t kLeastChannels = 16;
  return std::clamp<int64_t>(ceil_div(enough_items(threads), runs), 1,
                             ceil_div(geometry.channels, kLeastChannels));
}

/// Bytes of scratch that each thread may use beside the results.
inline int64_t scratch_budget(int64_t input_bytes) {
  return std::min<int64_t>(int64_t(32) << 20, input_bytes / 4);
}

/// The channels of a block, if an image of planes is worth packing into rows; else 0. Decided by
/// the shapes alone.
///
/// With lanes over channels a tap costs a fraction of what it costs with lanes over samples, but
/// each pixel has to be brought into that order first. That pays where there are about as many
/// samples as pixels, or more, and where the budget allows rows of at least four channels.
inline int64_t packed_channels(const Geometry& geometry, const View& input, int64_t input_bytes) {
  constexpr int64_t kLeastChannels = 4;
  const int64_t plane = packed_elements(geometry, 1);
  if (input.channel_stride == 1 || geometry.channels < kLeastChannels) return 0;
  if (geometry.mode == Mode::kNearest || geometry.samples * 2 < plane) return 0;
  const int64_t element = geometry.compute_in_double ? 8 : 4;
  int64_t most = std::min(geometry.channels, scratch_budget(input_bytes) / (plane * element));
  if (most == geometry.channels) return most;
  for (const int64_t unit : {64, 16, 8, 4}) {
    if (most >= unit) return most / unit * unit;
  }
  return 0;
}

/// Whether blocks of channels keep enough of the threads busy. If not, threads share the samples:
/// that costs more in all, much more where images are not packed then, but less time.
inline bool worth_sharing_blocks(int64_t blocks, int64_t threads, bool packed) {
  return packed ? blocks * 2 > threads : blocks * 4 >= threads * 3;
}

/// How the two gradients are computed in one walk over the samples.
struct BackwardSplit {
  int64_t groups = 0;  // of channels, per image of the input; 0: not in one walk
  int64_t group_channels = 0;
};

/// As few groups as keep the threads busy, because each computes the taps anew; whole blocks or
/// pieces. More than one needs `partial` for grad_grid, of which the budget decides.
inline BackwardSplit split_backward(const Geometry& geometry, int64_t input_batch, int64_t packed,
                                    int64_t piece, bool wants_grid, int64_t budget,
                                    int64_t threads) {
  const int64_t unit = packed > 0 ? packed : piece;
  const int64_t units = ceil_div(geometry.channels, unit);
  const int64_t pieces = ceil_div(geometry.channels, piece);
  const int64_t partial_bytes = pieces * geometry.batch * tile_count(geometry) * kTileSize *
                                geometry.dims * (geometry.compute_in_double ? 8 : 4);
  const bool may_split =
      !wants_grid || (pieces <= kMostChunks && partial_bytes <= budget * threads);
  BackwardSplit split;
  const int64_t wanted = may_split ? std::min(units, ceil_div(threads, input_batch)) : 1;
  split.group_channels = ceil_div(units, wanted) * unit;
  split.groups = ceil_div(geometry.channels, split.group_channels);
  if (!worth_sharing_blocks(input_batch * split.groups, threads, packed > 0)) split.groups = 0;
  return split;
}

struct GradInputSplit {
  int64_t channel_blocks = 1;
  int64_t slabs = 1;
  int slab_axis = 0;
};

/// Channel blocks cost each thread the taps of all samples again, slabs those of the tiles that
/// reach into them (half, say, of those that could be passed over): the split whose slowest thread
/// has the least to do.
inline GradInputSplit split_grad_input(const Geometry& geometry, int64_t input_batch,
                                       bool channels_innermost, int64_t threads) {
  GradInputSplit best;
  // Slabs are cut across the outermost axis that is long enough, for contiguous memory.
  for (int axis = geometry.dims - 1; axis >= 0; --axis) {
    if (geometry.input_size[axis] >= threads) {
      best.slab_axis = axis;
      break;
    }
    if (geometry.input_size[axis] > geometry.input_size[best.slab_axis]) best.slab_axis = axis;
  }
  constexpr int64_t kSlabCost = 1;
  constexpr double kWeightCost = 1.5;  // a tap's offset and weight, for all channels of a block
  // Rows shorter than a cache line are not worth splitting.
  const int64_t least_channels = channels_innermost ? 16 : 1;
  const int64_t most_blocks = std::max<int64_t>(1, geometry.channels / least_channels);
  const int64_t most_slabs = geometry.input_size[best.slab_axis];
  double least_cost = -1;
  for (int64_t blocks = 1; blocks <= std::min(most_blocks, threads); ++blocks) {
    const int64_t enough =
        std::clamp<int64_t>(ceil_div(threads, input_batch * blocks), 1, most_slabs);
    // One slab as well: where the taps are most of the work, sharing the pixels gains nothing.
    for (const int64_t slabs : {int64_t(1), enough}) {
      const auto rounds = static_cast<double>(ceil_div(input_batch * blocks * slabs, threads));
      const double cost_of_pixels =
          static_cast<double>(taps_per_sample(geometry)) *
          (kWeightCost + static_cast<double>(ceil_div(geometry.channels, blocks)));
      const double reached = 0.5 + 0.5 / static_cast<double>(slabs);
      const double cost =
          rounds * (static_cast<double>(kTapCost + (slabs > 1 ? kSlabCost : 0)) * reached +
                    cost_of_pixels / static_cast<double>(slabs));
      if (least_cost < 0 || cost < least_cost) {
        least_cost = cost;
        best.channel_blocks = blocks;
        best.slabs = slabs;
      }
    }
  }
  return best;
}

/// Into how many parts each slab may be cut, so that a thread that is held up does not hold up the
/// others: as long as few tiles reach into several slabs.
inline int64_t finer_slabs(const std::vector<TapRange>& ranges, int64_t size, int64_t slabs) {
  constexpr double kMostCrossing = 0.3;  // slab ends in a tile's range, on average
  double reached = 0;
  for (const TapRange& range : ranges) {
    reached += static_cast<double>(std::max<int64_t>(range.last - range.first, 0));
  }
  const double ends_per_slab =
      reached / static_cast<double>(ranges.size()) / static_cast<double>(size);
  for (const int64_t parts : {4, 2}) {
    const int64_t finer = slabs * parts;
    if (finer <= size && ends_per_slab * static_cast<double>(finer) <= kMostCrossing) return parts;
  }
  return 1;
}

}  // namespace gridsample_ext
