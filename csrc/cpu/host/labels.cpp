// sample_labels: allocate, describe, run.

#include "cpu/host/isa.h"
#include "cpu/host/ops.h"
#include "cpu/plan/split.h"
#include "cpu/threads/run_items.h"

namespace gridsample_ext::cpu {

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

}  // namespace gridsample_ext::cpu
