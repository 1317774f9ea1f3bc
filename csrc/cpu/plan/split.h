#pragma once

// How work is divided among threads, and what it costs. None of it changes a result: see
// cpu/work.h.

#include <algorithm>
#include <cstdint>

#include "cpu/plan/images.h"
#include "math/modes.h"

namespace gridsample_ext::cpu {

using portable::copies_pixels;
using portable::is_smooth;
using portable::taps_per_axis;

/// Work below this many (sample, channel, tap) triples per thread is not worth waking one: about
/// 10 microseconds' worth.
constexpr int64_t kMinWorkPerThread = 16384;

inline int64_t taps_per_sample(const Geometry& geometry) {
  const int64_t per_axis = taps_per_axis(geometry.mode);
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

/// Whether the samples of a call are so few that plain kernels take less time than it takes to copy
/// the image, of `images` of them, for vectors to do the rest. Decided by the shapes alone.
inline bool has_few_samples(const Geometry& geometry, int64_t images, const PlainCost& cost) {
  const int64_t per_tap = cost.tap + cost.value * geometry.channels;
  const int64_t per_sample = cost.sample + per_tap * taps_per_sample(geometry);
  return geometry.batch * geometry.samples * per_sample <
         images * packed_elements(geometry, geometry.channels);
}

/// Taps that plain kernels list for grad_input.
inline int64_t listed_taps(const Geometry& geometry) {
  return geometry.batch * geometry.samples * taps_per_sample(geometry);
}

/// What computing a sample's taps costs, in units of reading one pixel.
constexpr int64_t kTapCost = 4;

/// The threads that a backward or forward pass over the whole problem can keep busy.
inline int64_t useful_threads(const Geometry& geometry, int64_t most_threads) {
  const int64_t work = geometry.batch * geometry.samples *
                       (geometry.channels * taps_per_sample(geometry) + kTapCost);
  return std::clamp<int64_t>(work / kMinWorkPerThread, 1, most_threads);
}

/// With this many items the threads' shares differ by a quarter at most.
inline int64_t enough_items(int64_t threads) { return threads * 4; }

/// In planes of several channels the samples of different images do not lie side by side, and are
/// read or written one by one. With more numbers than these for each image, an image by itself is
/// quicker: to be sampled, or in the backward pass of nearest; and in that of other modes.
constexpr int64_t kMostApart = 96;
constexpr int64_t kMostGradientsApart = 256;

/// How many images of few samples make a group, whose samples fill a tile; 1 where they are enough
/// already. `image`: what taps are offsets into. most_apart: see above. Decided by the shapes
/// alone.
inline int64_t images_of_group(const Geometry& geometry, const View& image, bool rows,
                               int64_t most_apart) {
  constexpr int64_t kMostThreads = 64;  // that groups are left for
  if (geometry.batch == 1) return 1;
  const bool apart = !rows && geometry.channels > 1 && geometry.samples > 1;
  if (apart && geometry.channels * geometry.samples > most_apart) return 1;
  const int64_t threads = useful_threads(geometry, kMostThreads);
  const int64_t most = threads > 1 ? geometry.batch / enough_items(threads) : geometry.batch;
  int64_t images = std::max<int64_t>(std::min(kTileSize / geometry.samples, most), 1);
  Geometry grouped = group_images(geometry, images);
  while (images > 1 && !has_32_bit_offsets(grouped, group_images(image, grouped))) {
    grouped = group_images(geometry, --images);
  }
  return images;
}

/// Whether kernels can keep the taps of a few samples at a time in registers: for float32 images of
/// few channels, in planes or rows, of which a row of taps lies side by side.
inline bool fits_registers(const Geometry& geometry, const View& image, bool rows) {
  const int64_t taps = taps_per_axis(geometry.mode);
  const int64_t width = rows ? geometry.channels : 1;
  // What is copied may stand for numbers of other types.
  const bool has_registers_type = image.dtype == DType::kFloat ||
                                  (copies_pixels(geometry.mode) && image.dtype == DType::kBytes4);
  return geometry.dims == 2 && !geometry.outside_value.has_value() && taps <= kMostRegisterTaps &&
         has_registers_type && !geometry.compute_in_double &&
         geometry.channels <= kMostRegisterChannels && geometry.input_size[0] >= taps &&
         image.stride[0] == width && image.stride[1] >= geometry.input_size[0] * width;
}

/// Bytes of scratch that each thread may use beside the results.
inline int64_t scratch_budget(int64_t input_bytes) {
  return std::min<int64_t>(int64_t(32) << 20, input_bytes / 4);
}

/// Blocks of channels that planes are packed in, or 0 and why it does not pay.
struct Packing {
  int64_t channels;
  const char* why_not;
};

/// Whether an image of planes is worth packing into rows. Decided by the shapes alone.
///
/// With lanes over channels a tap costs a fraction of what it costs with lanes over samples, but
/// each pixel has to be brought into that order first. That pays where there are about as many
/// samples as pixels, or more, and where the budget allows rows of at least four channels.
inline Packing packing_of(const Geometry& geometry, const Image& image) {
  constexpr int64_t kLeastChannels = 4;
  const int64_t plane = packed_elements(geometry, 1);
  if (copies_pixels(geometry.mode)) return {0, "nearest does too little to pack the image"};
  if (geometry.channels < kLeastChannels) return {0, "too few channels to pack the image"};
  if (image.view.channel_stride == 1) return {0, "channels are innermost in the image alone"};
  if (geometry.samples * 2 < plane) return {0, "too few samples to pack the image"};
  const int64_t budget = scratch_budget(bytes_of(geometry, image));
  const int64_t most = std::min(geometry.channels, budget / (plane * compute_size(geometry)));
  if (most == geometry.channels) return {most, ""};
  for (const int64_t unit : {64, 16, 8, 4}) {
    if (most >= unit) return {most / unit * unit, ""};
  }
  return {0, "not four channels of the image fit the scratch of a thread"};
}

/// Whether blocks of channels keep enough of the threads busy. If not, threads share the samples:
/// that costs more in all, much more where images are not packed then, but less time.
inline bool worth_sharing_blocks(int64_t blocks, int64_t threads, bool packed) {
  return packed ? blocks * 2 > threads : blocks * 4 >= threads * 3;
}

/// Bytes of `chunks` sums for each element of grad_grid.
inline int64_t partial_bytes(const Geometry& geometry, int64_t chunks, int64_t grid_batch) {
  return chunks * grid_batch * tile_count(geometry) * kTileSize * geometry.dims *
         compute_size(geometry);
}

/// The outermost axis of more than one position, or x.
inline int outermost_axis(const Geometry& geometry) {
  int axis = geometry.dims - 1;
  while (axis > 0 && geometry.input_size[axis] == 1) --axis;
  return axis;
}

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

/// The split, and the ranges of tiles that several slabs need.
inline GradInputSplit plan_slabs(const Geometry& geometry, int64_t input_batch,
                                 bool channels_innermost, int64_t threads, const Without& without,
                                 Memory& memory) {
  GradInputSplit split = split_grad_input(geometry, input_batch, channels_innermost, threads);
  if (without.slab_ranges || geometry.images_per_group > 1) split.slabs = 1;
  if (split.slabs > 1) {
    memory.slab_ranges =
        geometry.batch * tile_count(geometry) * static_cast<int64_t>(sizeof(TapRange));
  }
  return split;
}

/// Into how many parts each slab may be cut, so that a thread that is held up does not hold up the
/// others: as long as few of the `count` tiles reach into several slabs.
inline int64_t finer_slabs(const TapRange* ranges, int64_t count, int64_t size, int64_t slabs) {
  constexpr double kMostCrossing = 0.3;  // slab ends in a tile's range, on average
  double reached = 0;
  for (int64_t tile = 0; tile < count; ++tile) {
    reached += static_cast<double>(std::max<int64_t>(ranges[tile].last - ranges[tile].first, 0));
  }
  const double ends_per_slab = reached / static_cast<double>(count) / static_cast<double>(size);
  for (const int64_t parts : {4, 2}) {
    const int64_t finer = slabs * parts;
    if (finer <= size && ends_per_slab * static_cast<double>(finer) <= kMostCrossing) return parts;
  }
  return 1;
}

}  // namespace gridsample_ext::cpu
