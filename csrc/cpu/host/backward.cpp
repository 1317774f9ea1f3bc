// The backward pass: plan, allocate, describe, run.

#include <algorithm>
#include <optional>
#include <tuple>

#include "cpu/host/explain.h"
#include "cpu/host/isa.h"
#include "cpu/host/ops.h"
#include "cpu/host/scratch.h"
#include "cpu/plan/split.h"
#include "cpu/threads/run_items.h"

namespace gridsample_ext::cpu {

bool is_scattered(const Geometry& geometry, const GridView& grid) {
  constexpr int64_t kRuns = 16;
  constexpr int64_t kRunSamples = 8;
  const int64_t tiles = tile_count(geometry);
  GradInputParams params;
  params.geometry = geometry;
  params.slab_axis = outermost_axis(geometry);
  params.grid = grid;
  for (int64_t& stride : params.grad_input.stride) stride = 1;  // positions, not offsets
  int64_t reached = 0;
  with_kernel_stack([&] {
    for (int64_t run = 0; run < kRuns; ++run) {
      const int64_t which = geometry.batch * tiles * (2 * run + 1) / (2 * kRuns);
      // The first samples of a tile are those of the last tile of an image that ends with them.
      const int64_t t = which % tiles;
      params.geometry.samples = std::min(geometry.samples, t * kTileSize + kRunSamples);
      const int64_t item = which / tiles * (t + 1) + t;
      TapRange range;
      kernels_for(geometry).backward.slab_ranges(params, item, item + 1, &range);
      reached += std::max<int64_t>(range.last - range.first + 1, 0);
    }
  });
  return reached * 2 > kRuns * geometry.input_size[params.slab_axis];
}

void divide_grad_input(GradInputParams& params, const GradInputSplit& split, void* ranges,
                       int64_t threads) {
  const Geometry& geometry = params.geometry;
  params.channel_blocks = split.channel_blocks;
  params.slabs = split.slabs;
  params.slab_axis = split.slab_axis;
  if (params.slabs == 1) return;
  auto* each = static_cast<TapRange*>(ranges);
  const int64_t tiles = geometry.batch * tile_count(geometry);
  params.ranges = each;
  run_items(tiles, threads, [&](int64_t, int64_t begin, int64_t end) {
    kernels_for(geometry).backward.slab_ranges(params, begin, end, each + begin);
  });
  params.slabs *= finer_slabs(each, tiles, geometry.input_size[params.slab_axis], params.slabs);
}

namespace {

/// Numbers of an image that sums for an affine map are made in.
int64_t affine_sums_of_image(const Geometry& geometry) {
  return tile_count(geometry) * geometry.dims * (geometry.dims + 1);
}

/// The sums over the samples of each tile of which the gradient of an affine map is made.
class AffineSums {
 public:
  AffineSums(const Geometry& geometry, int64_t images, const std::optional<Tensor>& affine)
      : of_image_(affine_sums_of_image(geometry)) {
    if (!affine.has_value()) return;
    sums_ = empty_contiguous({images * of_image_}, ScalarType::Double, *affine);
    zero(sums_);
  }

  /// Null where they are not wanted.
  double* data() const {
    return sums_.defined() ? static_cast<double*>(sums_.mutable_data_ptr()) : nullptr;
  }

  /// Added up in the order of the tiles, in the type of the affine map.
  Tensor gradient(const Tensor& affine) const {
    const Tensor total = empty_contiguous(sizes_vector(affine), ScalarType::Double, affine);
    zero(total);
    auto* to = static_cast<double*>(total.mutable_data_ptr());
    const int64_t maps = affine.size(0);
    const int64_t numbers = affine.size(1) * affine.size(2);
    for (int64_t i = 0; i < sums_.numel(); ++i) {
      const int64_t map = maps == 1 ? 0 : i / of_image_;
      to[map * numbers + i % numbers] += data()[i];
    }
    return rounded(total, affine, copy);
  }

 private:
  const int64_t of_image_;
  Tensor sums_;
};

/// Carries out a plan, for results of the types that it asks for.
class Backward {
 public:
  Backward(const BackwardCall& call, const BackwardPlan& plan, const Lent& lent,
           const Tensor& grad_output, const Tensor& input, const GridSource& grid,
           const Tensor& grad_input, const Tensor& grad_grid, double* affine_sums)
      : plan_(plan),
        lent_(lent),
        geometry_(group_images(call.geometry, plan.images_per_group)),
        kernels_(kernels_for(geometry_).backward),
        grad_output_(group_images(image_view(grad_output, geometry_), geometry_)),
        input_(group_images(image_view(input, geometry_), geometry_)),
        grid_(group_images(grid_view(grid, geometry_), geometry_)),
        input_batch_(ceil_div(call.input.batch, plan.images_per_group)),
        grid_batch_(ceil_div(call.grid_batch, plan.images_per_group)),
        scattered_(call.scattered) {
    if (grad_input.defined()) {
      grad_input_ = group_images(mutable_image_view(grad_input, geometry_), geometry_);
    }
    if (grad_grid.defined()) {
      grad_grid_ = group_images(mutable_grid_view(grad_grid, geometry_), geometry_);
    }
    set_affine_sums(affine_sums);
  }

  void in_one_walk() const {
    run_items(input_batch_ * plan_.groups, plan_.threads,
              [&, params = walk_params()](int64_t worker, int64_t begin, int64_t end) {
                kernels_.both(params, worker, begin, end);
              });
    if (plan_.partial_sums > 0) finish_grad_grid(true);
  }

  void in_joint_slabs() const {
    BackwardSlabParams params;
    params.grad_input = grad_input_params();
    params.grad_grid = grad_grid_params();
    params.rows = walk_params();
    params.rows.group_channels =
        ceil_div(geometry_.channels, plan_.piece_channels) * plan_.piece_channels;
    const auto kernel = plan_.grad_input == GradInputPath::kJointSlabsInRegisters
                            ? kernels_.both_in_registers
                            : kernels_.both_in_slabs;
    run_items(input_batch_ * params.grad_input.slabs, plan_.threads,
              [&](int64_t, int64_t begin, int64_t end) { kernel(params, begin, end); });
  }

  /// Threads share the channels and parts of the image.
  void grad_input() const {
    const GradInputParams params = grad_input_params();
    run_items(
        input_batch_ * params.channel_blocks * params.slabs, plan_.threads,
        [&](int64_t, int64_t begin, int64_t end) { kernels_.grad_input(params, begin, end); });
  }

  void grad_grid() const {
    const GradGridParams params = grad_grid_params();
    run_items(plan_.grad_grid_items, plan_.threads,
              [&](int64_t, int64_t begin, int64_t end) { kernels_.grad_grid(params, begin, end); });
    if (plan_.chunk_groups > 1) finish_grad_grid(false);
  }

  /// Of a warp whose gradients by coordinates have been stored.
  void add_affine_sums(double* sums) {
    set_affine_sums(sums);
    const GradGridParams params = grad_grid_params();
    run_items(
        grid_batch_ * tile_count(geometry_), plan_.threads,
        [&](int64_t, int64_t begin, int64_t end) { kernels_.affine_sums(params, begin, end); });
  }

  /// One packed block of channels after the other; threads share the pixels to be packed, then the
  /// samples.
  void grad_grid_packed() const {
    PackedBlockParams params;
    params.geometry = geometry_;
    params.grad_output = grad_output_;
    params.input = input_;
    params.grid = grid_;
    params.grad_grid = grad_grid_;
    params.piece_channels = plan_.piece_channels;
    params.parts = plan_.threads;
    params.packed = lent_.shared_block.data();
    for (int64_t batch = 0; batch < geometry_.batch; ++batch) {
      for (int64_t c = 0; c < geometry_.channels; c += plan_.packed_channels) {
        params.batch = batch;
        params.channel = c;
        params.channels = std::min(plan_.packed_channels, geometry_.channels - c);
        params.first = c == 0 && (batch == 0 || grid_batch_ == geometry_.batch);
        run_items(params.parts, plan_.threads,
                  [&](int64_t, int64_t begin, int64_t end) { kernels_.pack(params, begin, end); });
        run_items(plan_.grad_grid_items, plan_.threads, [&](int64_t, int64_t begin, int64_t end) {
          kernels_.grad_grid_packed(params, begin, end);
        });
      }
    }
  }

 private:
  BackwardParams walk_params() const {
    return {.geometry = geometry_,
            .grad_output = grad_output_,
            .input = input_,
            .grid = grid_,
            .grad_input = is_joint(plan_.grad_input) ? grad_input_ : View(),
            .grad_grid = is_joint(plan_.grad_grid) ? grad_grid_ : GradGridView(),
            .input_batch = input_batch_,
            .groups = plan_.groups,
            .group_channels = plan_.group_channels,
            .packed_channels = plan_.packed_channels,
            .piece_channels = plan_.piece_channels,
            .scratch = lent_.packed_blocks.data(),
            .partial = lent_.partial_sums.data()};
  }

  GradInputParams grad_input_params() const {
    GradInputParams params;
    params.geometry = geometry_;
    params.grad_output = grad_output_;
    params.grid = grid_;
    params.grad_input = grad_input_;
    params.input_batch = input_batch_;
    params.scattered = scattered_;
    divide_grad_input(params, plan_.split, lent_.slab_ranges.data(), plan_.threads);
    return params;
  }

  GradGridParams grad_grid_params() const {
    return {.geometry = geometry_,
            .grad_output = grad_output_,
            .input = input_,
            .grid = grid_,
            .grad_grid = grad_grid_,
            .grid_batch = grid_batch_,
            .piece_channels = plan_.piece_channels,
            .chunk_groups = plan_.chunk_groups,
            .partial = lent_.partial_sums.data(),
            .partial_sums = plan_.partial_sums,
            .has_first_sums = false,
            .scattered = scattered_};
  }

  void set_affine_sums(double* sums) {
    grad_grid_.affine_sums = sums;
    grad_grid_.affine_batch_stride = grid_batch_ == 1 ? 0 : affine_sums_of_image(geometry_);
  }

  /// Adds up the partial sums of grad_grid.
  void finish_grad_grid(bool has_first_sums) const {
    GradGridParams params = grad_grid_params();
    params.has_first_sums = has_first_sums;
    run_items(grid_batch_ * tile_count(geometry_), plan_.threads,
              [&](int64_t, int64_t begin, int64_t end) {
                kernels_.finish_grad_grid(params, begin, end);
              });
  }

  const BackwardPlan& plan_;
  const Lent& lent_;
  const Geometry geometry_;
  const BackwardKernels& kernels_;
  const View grad_output_;
  const View input_;
  const GridView grid_;
  const int64_t input_batch_;
  const int64_t grid_batch_;
  const bool scattered_;
  View grad_input_;  // no data: not wanted
  GradGridView grad_grid_;
};

/// Results of the type that they are computed in.
void allocate_results(const BackwardPlan& plan, const Tensor& input, const GridSource& grid,
                      const Geometry& geometry, bool stores_grid, bool adds_up_later,
                      Tensor& grad_input, Tensor& grad_grid) {
  if (plan.grad_input != GradInputPath::kNotWanted) {
    const bool own_type =
        plan.grad_input == GradInputPath::kEmpty || plan.grad_input == GradInputPath::kListedTaps;
    const ScalarType type = own_type ? input.scalar_type() : sum_type(geometry);
    if (!grad_input.defined() || grad_input.scalar_type() != type) {
      grad_input = empty_image(input, sizes_vector(input), type);
    }
  }
  if (stores_grid && plan.grad_grid != GradGridPath::kNotWanted) {
    const bool own_type =
        is_zero(plan.grad_grid) || (stores_once(plan.grad_grid) && !adds_up_later);
    const ScalarType type = own_type ? grid.values.scalar_type() : sum_type(geometry);
    if (!grad_grid.defined() || grad_grid.scalar_type() != type) grad_grid = empty_grid(grid, type);
  }
}

}  // namespace

Gradients backward(const Tensor& grad_output, const Tensor& input, const GridSource& grid,
                   const Geometry& geometry, const Wanted& wanted) {
  BackwardCall call{geometry,
                    plan_image(input, geometry),
                    *dtype_of(grid.values),
                    grid.values.size(0),
                    wanted.input,
                    wanted.grid || wanted.affine.has_value(),
                    false,
                    wanted.affine.has_value()};
  if (asks_whether_scattered(call)) {
    call.scattered = is_scattered(geometry, grid_view(grid, geometry));
  }
  const int64_t most = most_threads();
  Without without;
  BackwardPlan plan;
  Tensor grad_input;
  Tensor grad_grid;
  Tensor image = input;
  std::optional<Lent> lent;
  // What is computed sample by sample, or again, is stored first.
  bool adds_up_later = false;
  do {
    lent.reset();
    plan = plan_backward(call, most, without);
    adds_up_later = plan.grad_grid == GradGridPath::kPlain || geometry.fill_value != 0;
    allocate_results(plan, input, grid, geometry, wanted.grid || adds_up_later,
                     adds_up_later && wanted.affine.has_value(), grad_input, grad_grid);
    if (plan.copies_input && dtype_of(image) != compute_dtype(geometry)) {
      image = read_in_compute_type(input, geometry);
    }
    lent.emplace(plan.memory);
  } while (!lent->is_complete(without));
  executed.grad_input = plan.grad_input;
  executed.grad_grid = plan.grad_grid;

  const AffineSums affine_sums(geometry, call.grid_batch, wanted.affine);
  const PlainParams plain = plain_params(geometry, grid, std::nullopt);
  Backward kernels(call, plan, *lent, grad_output, image, grid, grad_input, grad_grid,
                   adds_up_later ? nullptr : affine_sums.data());
  switch (plan.grad_input) {
    case GradInputPath::kNotWanted:
      break;
    case GradInputPath::kEmpty:
      zero(grad_input);
      break;
    case GradInputPath::kPlain:
      plain_scatter(plain, grad_output, grad_input, plan.threads);
      break;
    case GradInputPath::kListedTaps:
      plain_grad_input(plain, grad_output, grad_input, lent->listed_taps.data(), plan.threads);
      break;
    case GradInputPath::kWalkInRows:
    case GradInputPath::kWalkInPackedRows:
      kernels.in_one_walk();
      break;
    case GradInputPath::kJointSlabsInPlanes:
    case GradInputPath::kJointSlabsInRows:
    case GradInputPath::kJointSlabsInRegisters:
      kernels.in_joint_slabs();
      break;
    default:
      kernels.grad_input();
  }
  switch (plan.grad_grid) {
    case GradGridPath::kNotWanted:
      break;
    case GradGridPath::kEmpty:
    case GradGridPath::kZero:
      if (grad_grid.defined()) zero(grad_grid);
      break;
    case GradGridPath::kPlain:
      plain_grad_grid(plain, grad_output, input, std::nullopt, grad_grid, plan.threads);
      break;
    case GradGridPath::kWalkInRows:
    case GradGridPath::kWalkInPackedRows:
    case GradGridPath::kJointSlabsInPlanes:
    case GradGridPath::kJointSlabsInRows:
    case GradGridPath::kJointSlabsInRegisters:
      if (!is_joint(plan.grad_input)) kernels.in_one_walk();
      break;
    case GradGridPath::kPackedRows:
      kernels.grad_grid_packed();
      break;
    case GradGridPath::kPlanes:
    case GradGridPath::kRows:
      kernels.grad_grid();
  }
  lent.reset();
  if (grad_grid.defined() && !is_zero(plan.grad_grid) && plan.grad_grid != GradGridPath::kPlain) {
    finish_grad_grid(geometry, grad_output, input, grid, std::nullopt, std::nullopt, grad_grid,
                     plan.threads);
  }
  Gradients gradients;
  gradients.input = rounded(grad_input, input, copy);
  if (wanted.affine) {
    if (adds_up_later && !is_zero(plan.grad_grid)) kernels.add_affine_sums(affine_sums.data());
    gradients.affine = affine_sums.gradient(*wanted.affine);
  }
  if (wanted.grid) gradients.grid = rounded(grad_grid, grid.values, copy);
  return gradients;
}

std::tuple<Tensor, Tensor> Ops::grid_sample_backward(const Tensor& grad_output, const Tensor& input,
                                                     const Tensor& grid, const Options& options,
                                                     const std::vector<bool>& output_mask,
                                                     bool /*deterministic: always*/) {
  const Geometry geometry = check_call(input, grid, options);
  check_grad_output(grad_output, input, grid, geometry);
  check_output_mask(output_mask);
  const Gradients gradients =
      backward(grad_output, input, grid, geometry, {output_mask[0], output_mask[1], std::nullopt});
  return {gradients.input, gradients.grid};
}

std::tuple<Tensor, Tensor, Tensor> Ops::warp_backward(
    const Tensor& grad_output, const Tensor& input, const Tensor& displacement,
    const std::optional<Tensor>& affine, const Options& options,
    const std::vector<bool>& output_mask, bool /*deterministic: always*/) {
  const Geometry geometry = check_warp(input, displacement, affine, options);
  check_grad_output(grad_output, input, displacement, geometry, "displacement");
  check_output_mask(output_mask, 3);
  const bool wants_affine = output_mask[2] && affine.has_value();
  const Gradients gradients =
      backward(grad_output, input, {displacement, dense_affine(affine, geometry, copy)}, geometry,
               {output_mask[0], output_mask[1], wants_affine ? affine : std::nullopt});
  return {gradients.input, gradients.grid, gradients.affine};
}

}  // namespace gridsample_ext::cpu
