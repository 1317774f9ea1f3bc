// Sample by sample, without vectors, and line by line: describe, run. See cpu/kernels/plain.h.

#include <algorithm>

#include "cpu/host/isa.h"
#include "cpu/host/ops.h"
#include "cpu/plan/split.h"
#include "cpu/threads/run_items.h"
#include "splines.h"

namespace gridsample_ext::cpu {
namespace {

void run_samples(const PlainParams& params, int64_t batch, int64_t threads,
                 void (*kernel)(const PlainParams&, int64_t, int64_t)) {
  const Geometry& geometry = params.geometry;
  run_items(batch * (params.finishes ? tile_count(geometry) : geometry.samples), threads,
            [&](int64_t, int64_t begin, int64_t end) { kernel(params, begin, end); });
}

void set_images(PlainParams& params, const Tensor& input,
                const std::optional<Tensor>& tangent_input) {
  params.input = image_view(input, params.geometry);
  if (tangent_input.has_value()) {
    params.tangent_input = image_view(*tangent_input, params.geometry);
  }
}

/// Whether positions on all axes fit the vectors that look for samples to be finished; else all
/// samples are.
bool has_32_bit_positions(const Geometry& geometry) {
  View positions;
  std::fill_n(positions.stride, kMaxDims, int64_t(1));
  return has_32_bit_offsets(geometry, positions);
}

}  // namespace

void finish_output(const Geometry& geometry, const Tensor& input, const GridSource& grid,
                   const std::optional<Tensor>& tangent_input,
                   const std::optional<Tensor>& tangent_grid, const Tensor& output,
                   int64_t threads) {
  if (!has_values_outside(geometry)) return;
  PlainParams params = plain_params(geometry, grid, tangent_grid);
  params.finishes = has_32_bit_positions(geometry);
  plain_output(params, input, tangent_input, output, threads);
}

void finish_grad_grid(const Geometry& geometry, const Tensor& grad_output, const Tensor& input,
                      const GridSource& grid, const std::optional<Tensor>& tangent_input,
                      const std::optional<Tensor>& tangent_grid, const Tensor& grad_grid,
                      int64_t threads) {
  if (geometry.fill_value == 0) return;
  PlainParams params = plain_params(geometry, grid, tangent_grid);
  params.finishes = has_32_bit_positions(geometry);
  plain_grad_grid(params, grad_output, input, tangent_input, grad_grid, threads);
}

PlainParams plain_params(const Geometry& geometry, const GridSource& grid,
                         const std::optional<Tensor>& tangent_grid) {
  PlainParams params;
  params.geometry = geometry;
  params.grid = grid_view(grid, geometry);
  if (tangent_grid.has_value()) params.tangent_grid = grid_view(*tangent_grid, geometry);
  params.grid_batch = grid.values.size(0);
  params.taps = nullptr;
  params.tap_count = 0;
  params.input_batch = 0;
  params.slabs = 1;
  return params;
}

void plain_output(PlainParams params, const Tensor& input,
                  const std::optional<Tensor>& tangent_input, const Tensor& output,
                  int64_t threads) {
  set_images(params, input, tangent_input);
  params.output = mutable_image_view(output, params.geometry);
  if (copies_pixels(params.geometry.mode)) {
    params.fill_value = element_of(params.geometry.fill_value, output, "fill_value");
    params.outside_value =
        element_of(params.geometry.outside_value.value_or(0), output, "outside_value");
  }
  run_samples(params, params.geometry.batch, threads, kernels_for(params.geometry).plain.output);
}

void plain_grad_grid(PlainParams params, const Tensor& grad_output, const Tensor& input,
                     const std::optional<Tensor>& tangent_input, const Tensor& grad_grid,
                     int64_t threads) {
  set_images(params, input, tangent_input);
  params.grad_output = image_view(grad_output, params.geometry);
  params.grad_grid = mutable_grid_view(grad_grid, params.geometry);
  run_samples(params, params.grid_batch, threads, kernels_for(params.geometry).plain.grad_grid);
}

void plain_grad_input(PlainParams params, const Tensor& grad_output, const Tensor& grad_input,
                      void* taps, int64_t threads) {
  params.input = mutable_image_view(grad_input, params.geometry);
  params.grad_output = image_view(grad_output, params.geometry);
  params.taps = static_cast<PlainTap*>(taps);
  params.tap_count = listed_taps(params.geometry);
  zero(grad_input);
  const PlainKernels& kernels = kernels_for(params.geometry).plain;
  run_samples(params, params.geometry.batch, threads, kernels.list_taps);
  std::sort(params.taps, params.taps + params.tap_count, [](const PlainTap& a, const PlainTap& b) {
    return a.pixel != b.pixel ? a.pixel < b.pixel : a.number < b.number;
  });
  run_items(params.tap_count, threads,
            [&](int64_t, int64_t begin, int64_t end) { kernels.add_taps(params, begin, end); });
}

void plain_scatter(PlainParams params, const Tensor& grad_output, const Tensor& grad_input,
                   int64_t threads) {
  const Geometry& geometry = params.geometry;
  params.input = mutable_image_view(grad_input, geometry);
  params.grad_output = image_view(grad_output, geometry);
  params.input_batch = grad_input.size(0);
  zero(grad_input);
  params.slabs =
      std::min(ceil_div(threads, params.input_batch), geometry.input_size[geometry.dims - 1]);
  run_items(params.input_batch * params.slabs, threads, [&](int64_t, int64_t begin, int64_t end) {
    kernels_for(geometry).plain.scatter(params, begin, end);
  });
}

Tensor Ops::sample_labels(const Tensor& labels, const Tensor& grid, const LabelOptions& options) {
  const LabelCall call = check_labels(labels, grid, options);
  const Geometry& geometry = call.geometry;
  const Tensor output = empty_image(labels, output_sizes(geometry), labels.scalar_type());
  if (has_no_output(geometry)) return output;
  const LabelParams params{.geometry = geometry,
                           .grid = grid_view(grid, geometry),
                           .labels = image_view(labels, geometry),
                           .output = mutable_image_view(output, geometry),
                           .type = call.type,
                           .fill_value = call.fill_value,
                           .outside_value = call.outside_value};
  run_items(geometry.batch * geometry.samples, useful_threads(geometry, most_threads()),
            [&](int64_t, int64_t begin, int64_t end) {
              kernels_for(geometry).plain.labels(params, begin, end);
            });
  return output;
}

Tensor Ops::spline_filter(const Tensor& image, const SplineOptions& options) {
  const Geometry geometry = check_spline_filter(image, options);
  const int64_t lanes = kLineBytes / size_of(compute_dtype(geometry));
  const auto run = [&](SplineParams params) {
    const int64_t size = params.axis.size;
    const int64_t items = ceil_div(params.lines, lanes);
    const int64_t enough = ceil_div(params.lines * size, kMinWorkPerThread);
    const int64_t threads = std::min({most_threads(), items, enough});
    const Tensor scratch = empty_contiguous({threads, size, lanes}, sum_type(geometry), image);
    params.scratch = scratch.mutable_data_ptr();
    run_items(items, threads, [&](int64_t worker, int64_t begin, int64_t end) {
      kernels_for(geometry).plain.spline_filter(params, worker, begin, end);
    });
  };
  return filter_image(image, geometry, options.transposed, run, copy);
}

}  // namespace gridsample_ext::cpu
