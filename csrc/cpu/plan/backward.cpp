#include "cpu/plan/plan.h"
#include "cpu/plan/split.h"

namespace gridsample_ext::cpu {
namespace {

/// Whether the gradients are better computed one after the other, from the input and into
/// grad_input, than both at once: where samples are scattered over more memory than is at hand. (Of
/// rows of many channels whole cache lines are used, and both at once is better.)
bool wants_one_image_at_a_time(const BackwardCall& call, const View& input) {
  constexpr int64_t kAtHand = int64_t(5) << 19;
  constexpr int64_t kRowBytes = 32;
  const Geometry& geometry = call.geometry;
  const int64_t element = compute_size(geometry);
  return call.scattered && packed_elements(geometry, geometry.channels) * element > kAtHand &&
         (geometry.channels * element < kRowBytes || input.channel_stride != 1);
}

class BackwardPlanner {
 public:
  BackwardPlanner(const BackwardCall& call, int64_t most_threads, const Without& without)
      : asked_(call), call_(call), without_(without) {
    plan_.threads = useful_threads(geometry_, most_threads);
  }

  BackwardPlan plan() {
    plan_without_images();
    if (to_input_ || to_grid_) plan_with_images();
    add_copies();
    return plan_;
  }

 private:
  /// What needs no vectors: no samples, derivatives of 0, and what plain kernels are for.
  void plan_without_images() {
    to_input_ = call_.wants_input;
    to_grid_ = call_.wants_grid;
    if (has_no_output(geometry_)) {
      if (to_input_) set_grad_input(GradInputPath::kEmpty, kNoOutput, 0);
      if (to_grid_) set_grad_grid(GradGridPath::kEmpty, kNoOutput, 0);
      return;
    }
    const bool own_type = has_compute_type(geometry_, call_.input);
    if (to_input_) {
      if (!own_type && !without_.listed_taps &&
          has_few_samples(geometry_, call_.input.batch, kPlainAdd)) {
        set_grad_input(GradInputPath::kListedTaps,
                       "sums in the compute type of a whole image would take longer than its few "
                       "samples",
                       listed_taps(geometry_));
        plan_.memory.listed_taps = listed_taps(geometry_) * static_cast<int64_t>(sizeof(PlainTap));
      } else if (!has_32_bit_offsets(geometry_, grad_input_view())) {
        set_grad_input(GradInputPath::kPlain, kWide, call_.input.batch * plan_.threads);
      }
    }
    if (to_grid_) {
      const bool wide = !has_32_bit_offsets(geometry_, call_.input.view) ||
                        (!own_type && !has_32_bit_offsets(geometry_, in_compute_type().view));
      if (!is_smooth(geometry_.mode)) {
        set_grad_grid(GradGridPath::kZero, "nearest has no derivative by the grid", 0);
      } else if (wide || (!own_type && has_few_samples(geometry_, call_.input.batch, kPlainRead))) {
        set_grad_grid(GradGridPath::kPlain,
                      wide ? kWide
                           : "to copy the image to the compute type would take longer than its "
                             "few samples",
                      call_.grid_batch * geometry_.samples);
      }
    }
  }

  void plan_with_images() {
    // Only grad_grid reads the input.
    plan_.copies_input = to_grid_ && is_widened(geometry_, call_.input);
    image_ = plan_.copies_input ? in_compute_type() : call_.input;
    // Blocks are turned back into planes: not for gradients that are channels-last.
    plan_.packed_channels = call_.input.channels_last ? 0 : packing_of(geometry_, image_).channels;
    plan_.piece_channels = piece_channels(geometry_, plan_.packed_channels);
    if (to_grid_ && plan_.packed_channels == 0) read_in_compute_type();
    if (plan_.packed_channels == 0) take_images_together();
    const char* apart = plan_one_walk();
    if (apart == nullptr) return;
    if (to_input_) {
      plan_.split = plan_slabs(geometry_, call_.input.batch, grad_input_view().channel_stride == 1,
                               plan_.threads, without_, plan_.memory);
      if (to_grid_ && plan_.packed_channels == 0) {
        apart = why_not_in_joint_slabs();
        if (apart == nullptr) return plan_joint_slabs();
      }
      plan_grad_input(apart);
    }
    if (to_grid_) plan_grad_grid(apart);
  }

  /// From here on the call is of groups of images.
  void take_images_together() {
    const View to = grad_input_view();
    // Where the image, or the copy of it that is read, serves as well, one offset has to find it
    // and its gradient: for grad_grid, and in one walk.
    const bool both = to_grid_ || same_spatial_strides(call_.input.view, to, geometry_);
    const bool differ = both && call_.input.view.batch_stride != to.batch_stride;
    if (call_.sums_apart || grid_is_broadcast() || call_.input.batch != geometry_.batch ||
        (to_input_ && differ)) {
      return;
    }
    const int64_t most_apart = copies_pixels(geometry_.mode) ? kMostApart : kMostGradientsApart;
    int64_t images = geometry_.batch;
    const auto limit = [&](const View& view) {
      images =
          std::min(images, images_of_group(geometry_, view, has_rows(geometry_, view), most_apart));
    };
    if (to_input_) limit(to);
    if (to_grid_) limit(image_.view);
    plan_.images_per_group = images;
    call_.geometry = group_images(geometry_, plan_.images_per_group);
    call_.input.batch = call_.grid_batch = geometry_.batch;
  }

  /// Both gradients in one walk over the samples, where lanes can go over channels and whole images
  /// or groups of channels are enough to share. Returns why not.
  const char* plan_one_walk() {
    const bool packs = plan_.packed_channels > 0;
    if (grid_is_broadcast()) return "the gradient of a broadcast grid adds up over the images";
    if (!packs) {
      if (wants_one_image_at_a_time(call_, image_.view)) return kScattered;
      const View rows = to_input_ ? grad_input_view() : image_.view;
      if (!has_rows(geometry_, image_.view) || !has_rows(geometry_, rows) ||
          !same_spatial_strides(image_.view, rows, geometry_)) {
        return "channels are not innermost in memory, and not worth packing";
      }
      if (pieces() > kMostChunks) return kManyPieces;
    }
    const int64_t unit = packs ? plan_.packed_channels : plan_.piece_channels;
    const int64_t units = ceil_div(geometry_.channels, unit);
    // As few groups as keep the threads busy, because each computes the taps anew; whole blocks or
    // pieces. More than one needs partial sums of grad_grid, of which the budget decides.
    const int64_t budget = scratch_budget(bytes_of(geometry_, image_));
    const bool may_split = !to_grid_ || (!without_.partial_sums && pieces() <= kMostChunks &&
                                         partial_bytes(geometry_, pieces(), geometry_.batch) <=
                                             budget * plan_.threads);
    const int64_t wanted =
        may_split ? std::min(units, ceil_div(plan_.threads, call_.input.batch)) : 1;
    const int64_t group_channels = ceil_div(units, wanted) * unit;
    const int64_t groups = ceil_div(geometry_.channels, group_channels);
    const int64_t items = call_.input.batch * groups;
    if (!worth_sharing_blocks(items, plan_.threads, packs)) {
      return "too few images and groups of channels to keep the threads busy";
    }
    if (packs && without_.packed_blocks) return "no memory to pack blocks for each thread";
    plan_.groups = groups;
    plan_.group_channels = group_channels;
    plan_.memory.packed_blocks = std::min(plan_.threads, items) *
                                 packed_elements(geometry_, plan_.packed_channels) *
                                 compute_size(geometry_);
    if (to_grid_) {  // of all groups but the first
      plan_.partial_sums =
          std::max<int64_t>(0, pieces() - ceil_div(group_channels, plan_.piece_channels));
      plan_.memory.partial_sums = partial_bytes(geometry_, plan_.partial_sums, geometry_.batch);
    }
    const char* reason = packs ? "samples and channels enough to pack planes into rows"
                               : "channels are innermost in memory";
    if (to_input_) {
      set_grad_input(packs ? GradInputPath::kWalkInPackedRows : GradInputPath::kWalkInRows, reason,
                     items);
    }
    if (to_grid_) {
      set_grad_grid(packs ? GradGridPath::kWalkInPackedRows : GradGridPath::kWalkInRows, reason,
                    items);
    }
    return nullptr;
  }

  const char* why_not_in_joint_slabs() const {
    const View to = grad_input_view();
    if (grid_is_broadcast()) return "the gradient of a broadcast grid adds up over the images";
    if (wants_one_image_at_a_time(call_, image_.view)) return kScattered;
    if (picks_samples()) return "scattered samples reach slabs that do not compute their grad_grid";
    if (plan_.split.channel_blocks > 1) return "threads share the channels of grad_input";
    if (has_rows(geometry_, image_.view) != has_rows(geometry_, to) ||
        !same_spatial_strides(image_.view, to, geometry_)) {
      return "the image and its gradient differ in their strides";
    }
    if (pieces() * (call_.grid_batch == 1 ? geometry_.batch : 1) > kMostChunks) return kManyPieces;
    return nullptr;
  }

  void plan_joint_slabs() {
    const bool rows = has_rows(geometry_, grad_input_view());
    const char* reason = plan_.split.slabs > 1
                             ? "threads share parts of the image, each with all its channels"
                             : "each image has one thread, with all its channels";
    const int64_t items = call_.input.batch * plan_.split.slabs;
    if (takes_registers()) {
      set_grad_input(GradInputPath::kJointSlabsInRegisters, reason, items);
      set_grad_grid(GradGridPath::kJointSlabsInRegisters, reason, items);
      return;
    }
    set_grad_input(rows ? GradInputPath::kJointSlabsInRows : GradInputPath::kJointSlabsInPlanes,
                   reason, items);
    set_grad_grid(rows ? GradGridPath::kJointSlabsInRows : GradGridPath::kJointSlabsInPlanes,
                  reason, items);
  }

  /// Whether the taps of a strip stay in registers: of planes. (The contributions of four channels,
  /// and of scattered samples, are added in another order.)
  bool takes_registers() const {
    return fits_registers(geometry_, image_.view, false) && is_smooth(geometry_.mode) &&
           geometry_.channels < kMostRegisterChannels && !has_rows(geometry_, image_.view) &&
           plan_.split.slab_axis == 1 && !call_.scattered;
  }

  void plan_grad_input(const char* reason) {
    const bool rows = has_rows(geometry_, grad_input_view());
    const GradInputPath path =
        copies_pixels(geometry_.mode)
            ? (rows ? GradInputPath::kNearestRows : GradInputPath::kNearestPlanes)
        : picks_samples()
            ? (rows ? GradInputPath::kRowsOfPickedSamples : GradInputPath::kPlanesOfPickedSamples)
            : (rows ? GradInputPath::kRows : GradInputPath::kPlanes);
    set_grad_input(path, reason,
                   call_.input.batch * plan_.split.channel_blocks * plan_.split.slabs);
  }

  /// Threads share the samples, and the channels where the samples are few. Where blocks of planes
  /// are packed, threads pack one block after the other, then share its samples.
  void plan_grad_grid(const char* reason) {
    if (plan_.packed_channels > 0 && !without_.shared_block) {
      set_grad_grid(GradGridPath::kPackedRows, reason, tile_count(geometry_));
      plan_.memory.shared_block =
          packed_elements(geometry_, plan_.packed_channels) * compute_size(geometry_);
      return;
    }
    if (plan_.packed_channels > 0) reason = "no memory to pack a block of channels";
    read_in_compute_type();
    const int64_t tiles = call_.grid_batch * tile_count(geometry_);
    // Too few tiles to keep the threads evenly busy: they share the chunks as well.
    const bool few_tiles = plan_.threads > 1 && tiles < 4 * plan_.threads;
    const int64_t chunks =
        std::min(pieces() * (call_.grid_batch == 1 ? geometry_.batch : 1), kMostChunks);
    plan_.chunk_groups = few_tiles && !without_.partial_sums ? chunks : 1;
    if (plan_.chunk_groups > 1) {
      plan_.partial_sums = plan_.chunk_groups;
      plan_.memory.partial_sums = partial_bytes(geometry_, plan_.partial_sums, call_.grid_batch);
    }
    set_grad_grid(has_rows(geometry_, image_.view) ? GradGridPath::kRows : GradGridPath::kPlanes,
                  reason, tiles * plan_.chunk_groups);
  }

  void add_copies() {
    const Geometry& geometry = asked_.geometry;
    if (plan_.copies_input) plan_.memory.image_copies = copy_bytes(geometry, asked_.input);
    if (call_.wants_input && plan_.grad_input != GradInputPath::kEmpty &&
        plan_.grad_input != GradInputPath::kListedTaps &&
        !has_compute_type(geometry, asked_.input)) {
      plan_.memory.result_copies += compute_bytes(geometry, asked_.input);
    }
    if (call_.wants_grid && !is_zero(plan_.grad_grid) && !stores_once(plan_.grad_grid) &&
        call_.grid_dtype != compute_type(geometry)) {
      plan_.memory.result_copies +=
          asked_.grid_batch * geometry.samples * geometry.dims * compute_size(geometry);
    }
  }

  void set_grad_input(GradInputPath path, const char* reason, int64_t items) {
    plan_.grad_input = path;
    plan_.grad_input_reason = reason;
    plan_.grad_input_items = items;
    to_input_ = false;
  }
  void set_grad_grid(GradGridPath path, const char* reason, int64_t items) {
    plan_.grad_grid = path;
    plan_.grad_grid_reason = reason;
    plan_.grad_grid_items = items;
    to_grid_ = false;
  }

  Image in_compute_type() const {
    return dense_like(geometry_, call_.input, compute_type(geometry_));
  }
  void read_in_compute_type() {
    if (has_compute_type(geometry_, image_)) return;
    plan_.copies_input = true;
    image_ = in_compute_type();
  }
  View grad_input_view() const { return in_compute_type().view; }
  /// By its size: a grid expanded over the batch has a gradient for each image.
  bool grid_is_broadcast() const { return call_.grid_batch != geometry_.batch; }
  bool picks_samples() const { return call_.scattered && plan_.split.slabs > 1; }
  int64_t pieces() const { return ceil_div(geometry_.channels, plan_.piece_channels); }

  static constexpr const char* kNoOutput = "the output has no elements";
  static constexpr const char* kWide = "offsets within a plane of the image need 64 bits";
  static constexpr const char* kScattered =
      "samples are scattered over more memory than is at hand for two images";
  static constexpr const char* kManyPieces = "more pieces of channels than grad_grid has chunks";

  const BackwardCall& asked_;
  BackwardCall call_;  // of groups of images, if they are taken together
  const Geometry& geometry_ = call_.geometry;
  const Without& without_;
  Image image_;           // as kernels read it
  bool to_input_ = true;  // wanted, and not planned yet
  bool to_grid_ = true;
  BackwardPlan plan_;
};

}  // namespace

bool asks_whether_scattered(const BackwardCall& call) {
  constexpr int64_t kLeastTiles = 64;
  constexpr int64_t kLeastSize = 32;
  const Geometry& geometry = call.geometry;
  if (tile_count(geometry) < kLeastTiles || has_no_output(geometry)) return false;
  if (geometry.input_size[outermost_axis(geometry)] < kLeastSize) return false;
  const View dense = dense_like(geometry, call.input, compute_type(geometry)).view;
  return (call.wants_input && has_32_bit_offsets(geometry, dense)) ||
         (call.wants_grid && is_smooth(geometry.mode) &&
          has_32_bit_offsets(geometry, call.input.view));
}

BackwardPlan plan_backward(const BackwardCall& call, int64_t most_threads, const Without& without) {
  return BackwardPlanner(call, most_threads, without).plan();
}

}  // namespace gridsample_ext::cpu
