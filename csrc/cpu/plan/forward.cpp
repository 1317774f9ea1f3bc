#include "cpu/plan/plan.h"
#include "cpu/plan/split.h"

namespace gridsample_ext::cpu {
namespace {

/// Tiles taken together: nearest from planes, as far as that leaves items enough for all threads.
int64_t forward_run_tiles(const Geometry& geometry, int64_t threads) {
  const int64_t tiles = tile_count(geometry);
  return std::clamp<int64_t>(geometry.batch * tiles / enough_items(threads), 1,
                             std::min<int64_t>(nearest_run(geometry), tiles));
}

/// Enough items for all threads, and few enough that each shares the taps of a run of tiles among
/// many channels.
int64_t forward_channel_blocks(const Geometry& geometry, int64_t runs, int64_t threads) {
  constexpr int64_t kLeastChannels = 16;
  return std::clamp<int64_t>(ceil_div(enough_items(threads), runs), 1,
                             ceil_div(geometry.channels, kLeastChannels));
}

/// Items share tiles, and channels where tiles are few.
void share_tiles(ForwardPlan& plan, const Geometry& geometry) {
  plan.run_tiles =
      plan.path == ForwardPath::kNearestPlanes ? forward_run_tiles(geometry, plan.threads) : 1;
  const int64_t runs = geometry.batch * ceil_div(tile_count(geometry), plan.run_tiles);
  plan.channel_blocks = forward_channel_blocks(geometry, runs, plan.threads);
  plan.items = runs * plan.channel_blocks;
}

/// Items share the samples of all images.
void share_samples(ForwardPlan& plan, const Geometry& geometry) {
  constexpr int64_t kMostTiles = 16;
  const int64_t tiles = ceil_div(geometry.batch * geometry.samples, kTileSize);
  plan.run_tiles = std::clamp<int64_t>(tiles / enough_items(plan.threads), 1, kMostTiles);
  plan.items = ceil_div(tiles, plan.run_tiles);
}

/// Blocks of channels in packed rows, or why there are none.
const char* pack_blocks(ForwardPlan& plan, const Geometry& geometry, const Image& image,
                        const Without& without) {
  const Packing packing = packing_of(geometry, image);
  if (packing.channels == 0) return packing.why_not;
  const int64_t items = geometry.batch * ceil_div(geometry.channels, packing.channels);
  if (!worth_sharing_blocks(items, plan.threads, true)) {
    return "too few packed blocks of channels to keep the threads busy";
  }
  if (without.packed_blocks) return "no memory to pack the image";
  plan.items = items;
  plan.packed_channels = packing.channels;
  plan.memory.packed_blocks = std::min(plan.threads, items) *
                              packed_elements(geometry, packing.channels) * compute_size(geometry);
  return nullptr;
}

}  // namespace

ForwardPlan plan_forward(const ForwardCall& call, int64_t most_threads, const Without& without) {
  const Geometry& geometry = call.geometry;
  ForwardPlan plan;
  plan.reason = "the output has no elements";
  if (has_no_output(geometry)) return plan;
  plan.threads = useful_threads(geometry, most_threads);
  const bool nearest = copies_pixels(geometry.mode);
  const bool widens = is_widened(geometry, call.input) && !nearest;
  const Image image =
      widens ? dense_like(geometry, call.input, compute_type(geometry)) : call.input;
  const bool wide = !has_32_bit_offsets(geometry, call.input.view) ||
                    (widens && !has_32_bit_offsets(geometry, image.view));
  if (wide || (widens && has_few_samples(geometry, image.batch, kPlainRead))) {
    plan.path = ForwardPath::kPlain;
    plan.reason = wide ? "offsets within a plane of the image need 64 bits"
                       : "to copy the image to float64 would take longer than its few samples";
    plan.items = geometry.batch * geometry.samples;
    return plan;
  }
  if (widens) {
    plan.widens = true;
    plan.memory.image_copies = copy_bytes(geometry, image);
    plan.memory.result_copies =
        geometry.batch * geometry.channels * geometry.samples * compute_size(geometry);
  }
  const bool rows = has_rows(geometry, image.view) && has_rows(geometry, call.output);
  const char* not_packed = "channels are innermost in memory";
  if (!rows) {
    not_packed = pack_blocks(plan, geometry, image, without);
    if (not_packed == nullptr) {
      plan.path = ForwardPath::kPackedRows;
      plan.reason = "samples and channels enough to pack planes into rows";
      return plan;
    }
  }
  plan.images_per_group = images_of_group(geometry, image.view, rows, kMostApart);
  const Geometry grouped = group_images(geometry, plan.images_per_group);
  // Longer rows of nearest are copied.
  const bool copies_rows = nearest && rows && geometry.channels > 2;
  if (!copies_rows && fits_registers(geometry, image.view, rows)) {
    plan.path = ForwardPath::kInRegisters;
    plan.reason = "so few channels have little use for taps in memory";
    share_samples(plan, grouped);
    return plan;
  }
  plan.reason = not_packed;
  if (rows) {
    plan.path = nearest ? ForwardPath::kNearestRows : ForwardPath::kRows;
  } else {
    plan.path = nearest ? ForwardPath::kNearestPlanes : ForwardPath::kPlanes;
  }
  share_tiles(plan, grouped);
  return plan;
}

}  // namespace gridsample_ext::cpu
