#include "cpu/host/explain.h"

#include <algorithm>
#include <iterator>
#include <stdexcept>

#include "cpu/host/isa.h"
#include "cpu/host/ops.h"
#include "cpu/plan/images.h"
#include "cpu/threads/run_items.h"

namespace gridsample_ext::cpu {

constinit thread_local Executed executed;

namespace {

constexpr struct {
  const char* name;
  int64_t Memory::* bytes;
} kMemory[] = {
    {"packed blocks", &Memory::packed_blocks},     {"shared packed block", &Memory::shared_block},
    {"partial sums", &Memory::partial_sums},       {"slab ranges", &Memory::slab_ranges},
    {"listed taps", &Memory::listed_taps},         {"copies of images", &Memory::image_copies},
    {"copies of results", &Memory::result_copies},
};

constexpr struct {
  const char* name;
  bool Without::* missing;
} kWithout[] = {
    {"packed blocks", &Without::packed_blocks}, {"shared packed block", &Without::shared_block},
    {"partial sums", &Without::partial_sums},   {"slab ranges", &Without::slab_ranges},
    {"listed taps", &Without::listed_taps},
};

DType dtype_named(const std::string& name) {
  if (name == "float16") return DType::kHalf;
  if (name == "bfloat16") return DType::kBFloat16;
  if (name == "float64") return DType::kDouble;
  if (name == "bool" || name == "uint8" || name == "int8") return DType::kByte;
  if (name == "int16" || name == "uint16") return DType::kBytes2;
  if (name == "int32" || name == "uint32") return DType::kBytes4;
  if (name == "int64" || name == "uint64") return DType::kBytes8;
  return DType::kFloat;
}

View view_of(const TensorFacts& facts, size_t channel, size_t last_spatial, int dims) {
  View view;
  view.dtype = dtype_named(facts.dtype);
  view.batch_stride = facts.sizes[0] == 1 ? 0 : facts.strides[0];
  view.channel_stride = facts.strides[channel];
  for (int axis = 0; axis < dims; ++axis) {
    view.stride[axis] = facts.strides[last_spatial - static_cast<size_t>(axis)];
  }
  return view;
}

/// What check_call says of tensors.
Geometry geometry_of(const CallFacts& facts) {
  const auto sizes_of = [](const TensorFacts& tensor) {
    return [&tensor](int d) { return tensor.sizes[static_cast<size_t>(d)]; };
  };
  return make_geometry(static_cast<int>(facts.input.sizes.size()) - 2, sizes_of(facts.input),
                       sizes_of(facts.grid), facts.options,
                       facts.input.dtype == "float64" || facts.grid.dtype == "float64");
}

Image image_of(const TensorFacts& facts, const Geometry& geometry) {
  return {view_of(facts, 1, facts.sizes.size() - 1, geometry.dims), facts.sizes[0],
          facts.channels_last};
}

class Explainer {
 public:
  explicit Explainer(const CallFacts& facts)
      : facts_(facts),
        geometry_(geometry_of(facts)),
        input_(image_of(facts.input, geometry_)),
        most_(facts.threads > 0 ? facts.threads : most_threads()) {
    for (const std::string& name : facts.without) {
      for (const auto& entry : kWithout) {
        if (name == entry.name) without_.*entry.missing = true;
      }
    }
  }

  Explanation explain() {
    if (facts_.op == "forward") {
      explain_forward();
    } else if (facts_.op == "backward") {
      explain_backward();
    } else if (facts_.op == "jvp") {
      const JvpPlan plan = plan_jvp(second_order(), most_);
      add("tangent", name_of(plan.path), plan.reason, plan.threads, plan.items);
      finish(plan.memory, false);
    } else if (facts_.op == "double_backward") {
      explain_double_backward();
    } else {
      throw std::invalid_argument("gridsample_ext: there is no op '" + facts_.op + "' to explain");
    }
    return explanation_;
  }

 private:
  void explain_forward() {
    View output;  // in the layout of results
    output.channel_stride = input_.channels_last ? 1 : geometry_.samples;
    const ForwardPlan plan = plan_forward({geometry_, input_, output}, most_, without_);
    add("output", name_of(plan.path), plan.reason, plan.threads, plan.items);
    explanation_.split = {{"images in a group", plan.images_per_group},
                          {"channel blocks", plan.channel_blocks},
                          {"tiles in a run", plan.run_tiles},
                          {"channels of a packed block", plan.packed_channels}};
    finish(plan.memory, plan.path != ForwardPath::kPlain);
  }

  void explain_backward() {
    BackwardCall call{geometry_,
                      input_,
                      dtype_named(facts_.grid.dtype),
                      facts_.grid.sizes[0],
                      facts_.wants_input,
                      facts_.wants_grid,
                      facts_.scattered};
    if (facts_.grid_address != 0 && asks_whether_scattered(call)) {
      const auto dims = static_cast<size_t>(geometry_.dims);
      View grid = view_of(facts_.grid, dims + 1, dims, geometry_.dims);
      grid.data = reinterpret_cast<void*>(facts_.grid_address);
      call.scattered = is_scattered(geometry_, grid);
    }
    const BackwardPlan plan = plan_backward(call, most_, without_);
    add("grad_input", name_of(plan.grad_input), plan.grad_input_reason, plan.threads,
        plan.grad_input_items);
    add("grad_grid", name_of(plan.grad_grid), plan.grad_grid_reason, plan.threads,
        plan.grad_grid_items);
    explanation_.split = {{"images in a group", plan.images_per_group},
                          {"groups of channels", plan.groups},
                          {"channel blocks", plan.split.channel_blocks},
                          {"slabs", plan.split.slabs},
                          {"channel chunks", plan.chunk_groups},
                          {"channels of a packed block", plan.packed_channels}};
    const auto plainly = [](GradInputPath path) {
      return path == GradInputPath::kPlain || path == GradInputPath::kListedTaps;
    };
    finish(plan.memory, !(plainly(plan.grad_input) || plan.grad_grid == GradGridPath::kPlain) ||
                            is_joint(plan.grad_grid));
  }

  void explain_double_backward() {
    SecondOrderCall call = second_order();
    call.wants_input = facts_.wants_input;
    call.wants_grid = facts_.wants_grid;
    const DoubleBackwardPlan plan = plan_double_backward(call, most_, without_);
    add("second grad_input", name_of(plan.grad_input), plan.grad_input_reason, plan.threads,
        plan.grad_input_items);
    add("second grad_grid", name_of(plan.grad_grid), plan.grad_grid_reason, plan.threads,
        plan.grad_grid_items);
    explanation_.split = {{"channel blocks", plan.split.channel_blocks},
                          {"slabs", plan.split.slabs}};
    finish(plan.memory, false);
  }

  SecondOrderCall second_order() const {
    SecondOrderCall call;
    call.geometry = geometry_;
    call.input = input_;
    call.moves_input = !facts_.tangent_input.sizes.empty();
    if (call.moves_input) call.tangent_input = image_of(facts_.tangent_input, geometry_);
    call.moves_grid = facts_.moves_grid;
    call.grid_batch = facts_.grid.sizes[0];
    return call;
  }

  void add(const char* result, const char* path, const char* reason, int64_t threads,
           int64_t items) {
    explanation_.paths.emplace_back(result, path);
    explanation_.reasons.emplace_back(result, reason);
    explanation_.threads = std::max(explanation_.threads, std::min(threads, items));
  }

  void finish(const Memory& memory, bool in_vectors) {
    explanation_.instruction_set = isa_of(geometry_, in_vectors);
    for (const auto& entry : kMemory) {
      const int64_t bytes = memory.*entry.bytes;
      if (bytes > 0) explanation_.memory.emplace_back(entry.name, bytes);
    }
  }

  const CallFacts& facts_;
  const Geometry geometry_;
  const Image input_;
  const int64_t most_;
  Without without_;
  Explanation explanation_;
};

}  // namespace

Explanation explain(const CallFacts& facts) { return Explainer(facts).explain(); }

Names executed_paths() {
  return {{"output", name_of(executed.output)},
          {"grad_input", name_of(executed.grad_input)},
          {"grad_grid", name_of(executed.grad_grid)},
          {"tangent", name_of(executed.tangent)},
          {"second grad_input", name_of(executed.second_grad_input)},
          {"second grad_grid", name_of(executed.second_grad_grid)}};
}

std::vector<std::pair<std::string, std::vector<std::string>>> all_paths() {
  return {
      {"output", {std::begin(kForwardPaths), std::end(kForwardPaths)}},
      {"grad_input", {std::begin(kGradInputPaths), std::end(kGradInputPaths)}},
      {"grad_grid", {std::begin(kGradGridPaths), std::end(kGradGridPaths)}},
      {"tangent", {std::begin(kJvpPaths), std::end(kJvpPaths)}},
      {"second grad_input", {std::begin(kSecondGradInputPaths), std::end(kSecondGradInputPaths)}},
      {"second grad_grid", {std::begin(kSecondGradGridPaths), std::end(kSecondGradGridPaths)}}};
}

}  // namespace gridsample_ext::cpu
