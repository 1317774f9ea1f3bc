#include "cpu/plan/plan.h"
#include "cpu/plan/split.h"

namespace gridsample_ext::cpu {
namespace {

constexpr const char* kLinear = "the result is linear in the image, and the grid does not move";
constexpr const char* kNearest = "nearest has no derivative by the grid";
constexpr const char* kWide = "offsets within an image of rows need 64 bits";
constexpr const char* kFew = "to copy images would take longer than their few samples";
constexpr const char* kAsRows = "images are rows, or are copied as rows";

bool has_wide_rows(const Geometry& geometry) {
  return !has_32_bit_offsets(geometry, rows_view(geometry, 1));
}

/// Why plain kernels read the images, or null: few samples of an image that would be copied (one
/// that is rows already is not), or too large ones.
const char* why_plainly(const SecondOrderCall& call) {
  const Geometry& geometry = call.geometry;
  if (has_wide_rows(geometry)) return kWide;
  const bool copies = !is_rows(geometry, call.input) ||
                      (call.moves_input && !is_rows(geometry, call.tangent_input));
  return copies && has_few_samples(geometry, call.input.batch, kPlainRead) ? kFew : nullptr;
}

/// Whether a direction that takes input's place in an op of the first order has another type, and
/// there are few samples.
bool reads_tangent_plainly(const SecondOrderCall& call) {
  return call.tangent_input.view.dtype != call.input.view.dtype &&
         has_few_samples(call.geometry, call.input.batch, kPlainRead);
}

/// A direction of another type than input's takes its place as a copy in the compute type.
int64_t copy_of_tangent(const SecondOrderCall& call) {
  return call.tangent_input.view.dtype != call.input.view.dtype
             ? compute_bytes(call.geometry, call.tangent_input)
             : 0;
}

/// Copies of the images that are read as rows.
int64_t copies_as_rows(const SecondOrderCall& call) {
  const int64_t bytes = compute_bytes(call.geometry, call.input);
  return (is_rows(call.geometry, call.input) ? 0 : bytes) +
         (call.moves_input && !is_rows(call.geometry, call.tangent_input) ? bytes : 0);
}

void plan_grad_input(DoubleBackwardPlan& plan, const SecondOrderCall& call,
                     const Without& without) {
  const Geometry& geometry = call.geometry;
  const Image grad_input = dense_like(geometry, call.input, call.input.view.dtype);
  if (has_wide_rows(geometry)) {
    plan.grad_input = SecondGradInputPath::kPlain;
    plan.grad_input_reason = kWide;
    plan.grad_input_items = call.input.batch * plan.threads;
    if (!has_compute_type(geometry, call.input)) {
      plan.memory.result_copies = compute_bytes(geometry, call.input);
    }
    return;
  }
  if (!is_rows(geometry, grad_input) && !without.listed_taps &&
      has_few_samples(geometry, call.input.batch, kPlainAdd)) {
    plan.grad_input = SecondGradInputPath::kListedTaps;
    plan.grad_input_reason = "sums of a whole image as rows would take longer than its few samples";
    plan.grad_input_items = listed_taps(geometry);
    plan.memory.listed_taps = listed_taps(geometry) * static_cast<int64_t>(sizeof(PlainTap));
    return;
  }
  plan.grad_input = SecondGradInputPath::kRows;
  plan.grad_input_reason = kAsRows;
  if (!is_rows(geometry, grad_input)) {
    plan.memory.result_copies = compute_bytes(geometry, call.input);
  }
  plan.split = plan_slabs(geometry, call.input.batch, true, plan.threads, without, plan.memory);
  plan.grad_input_items = call.input.batch * plan.split.channel_blocks * plan.split.slabs;
}

void plan_grad_grid(DoubleBackwardPlan& plan, const SecondOrderCall& call) {
  const Geometry& geometry = call.geometry;
  plan.grad_grid_items = call.grid_batch * geometry.samples;
  if (!call.moves_grid) {
    const bool plainly = reads_tangent_plainly(call);
    plan.grad_grid = plainly ? SecondGradGridPath::kPlain : SecondGradGridPath::kLinear;
    plan.grad_grid_reason = plainly ? kFew : kLinear;
    if (!plainly) plan.memory.image_copies = copy_of_tangent(call);
  } else if (const char* reason = why_plainly(call)) {
    plan.grad_grid = SecondGradGridPath::kPlain;
    plan.grad_grid_reason = reason;
  } else {
    plan.grad_grid = has_channel_lanes(geometry) ? SecondGradGridPath::kLanesOverChannels
                                                 : SecondGradGridPath::kLanesOverSamples;
    plan.grad_grid_reason = kAsRows;
    plan.grad_grid_items = call.grid_batch * strip_count(geometry);
    plan.memory.image_copies = copies_as_rows(call);
  }
}

}  // namespace

JvpPlan plan_jvp(const SecondOrderCall& call, int64_t most_threads) {
  const Geometry& geometry = call.geometry;
  JvpPlan plan;
  plan.reason = "the output has no elements";
  if (has_no_output(geometry)) return plan;
  plan.threads = useful_threads(geometry, most_threads);
  plan.items = geometry.batch * geometry.samples;
  const bool nearest = !is_smooth(geometry.mode);
  if (!call.moves_grid || nearest) {
    if (!call.moves_input) {
      plan.path = JvpPath::kZero;
      plan.reason = kNearest;
    } else if (reads_tangent_plainly(call)) {
      plan.path = JvpPath::kPlain;
      plan.reason = kFew;
    } else {
      plan.path = JvpPath::kLinear;
      plan.reason = nearest ? kNearest : kLinear;
      plan.memory.image_copies = copy_of_tangent(call);
    }
  } else if (const char* reason = why_plainly(call)) {
    plan.path = JvpPath::kPlain;
    plan.reason = reason;
  } else {
    plan.path =
        has_channel_lanes(geometry) ? JvpPath::kLanesOverChannels : JvpPath::kLanesOverSamples;
    plan.reason = kAsRows;
    plan.items = geometry.batch * strip_count(geometry);
    plan.memory.image_copies = copies_as_rows(call);
  }
  return plan;
}

DoubleBackwardPlan plan_double_backward(const SecondOrderCall& call, int64_t most_threads,
                                        const Without& without) {
  const Geometry& geometry = call.geometry;
  DoubleBackwardPlan plan;
  plan.threads = useful_threads(geometry, most_threads);
  const bool empty = has_no_output(geometry);
  const char* zero = empty ? "the output has no elements" : kNearest;
  const bool curved = !empty && is_smooth(geometry.mode);
  if (call.wants_input) {
    if (curved && call.moves_grid) {
      plan_grad_input(plan, call, without);
    } else {
      plan.grad_input = SecondGradInputPath::kZero;
      plan.grad_input_reason = curved ? "the grid does not move" : zero;
    }
  }
  if (call.wants_grid) {
    if (curved) {
      plan_grad_grid(plan, call);
    } else {
      plan.grad_grid = SecondGradGridPath::kZero;
      plan.grad_grid_reason = zero;
    }
  }
  return plan;
}

}  // namespace gridsample_ext::cpu
