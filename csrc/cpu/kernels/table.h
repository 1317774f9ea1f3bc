#pragma once

// The kernels as the host sees them: functions, in one table per header of kernels that is
// compiled, and one table of these per instruction set and compute type. All take a range of work
// items, as cpu/work.h says of their params.

#include "cpu/work.h"

namespace gridsample_ext {

struct ForwardKernels {
  void (*forward)(const ForwardParams&, int64_t begin, int64_t end);
  void (*packed)(const ForwardParams&, int64_t worker, int64_t begin, int64_t end);
  void (*in_registers)(const ForwardParams&, int64_t begin, int64_t end);
};

struct BackwardKernels {
  void (*both)(const BackwardParams&, int64_t worker, int64_t begin, int64_t end);
  void (*both_in_slabs)(const BackwardSlabParams&, int64_t begin, int64_t end);
  void (*both_in_registers)(const BackwardSlabParams&, int64_t begin, int64_t end);
  void (*grad_input)(const GradInputParams&, int64_t begin, int64_t end);
  // ranges[item - begin] of items (batch, tile).
  void (*slab_ranges)(const GradInputParams&, int64_t begin, int64_t end, TapRange* ranges);
  void (*grad_grid)(const GradGridParams&, int64_t begin, int64_t end);
  void (*finish_grad_grid)(const GradGridParams&, int64_t begin, int64_t end);
  // Of items (grid batch, tile), from grad_grid.
  void (*affine_sums)(const GradGridParams&, int64_t begin, int64_t end);
  void (*pack)(const PackedBlockParams&, int64_t begin, int64_t end);
  void (*grad_grid_packed)(const PackedBlockParams&, int64_t begin, int64_t end);
};

struct SecondOrderKernels {
  void (*to_rows)(const RowsParams&, int64_t begin, int64_t end);
  void (*from_rows)(const RowsParams&, int64_t begin, int64_t end);
  void (*jvp)(const SecondOrderParams&, int64_t begin, int64_t end);
  void (*double_backward_input)(const SecondOrderParams&, int64_t begin, int64_t end);
  void (*double_backward_grid)(const SecondOrderParams&, int64_t begin, int64_t end);
};

struct PlainKernels {
  void (*output)(const PlainParams&, int64_t begin, int64_t end);
  void (*grad_grid)(const PlainParams&, int64_t begin, int64_t end);
  void (*list_taps)(const PlainParams&, int64_t begin, int64_t end);
  void (*add_taps)(const PlainParams&, int64_t begin, int64_t end);
  void (*scatter)(const PlainParams&, int64_t begin, int64_t end);
  void (*labels)(const LabelParams&, int64_t begin, int64_t end);
  void (*spline_filter)(const SplineParams&, int64_t worker, int64_t begin, int64_t end);
};

/// The kernels of one compute type.
struct KernelTable {
  const ForwardKernels& forward;
  const BackwardKernels& backward;
  const SecondOrderKernels& second_order;
  const PlainKernels& plain;
};

}  // namespace gridsample_ext
