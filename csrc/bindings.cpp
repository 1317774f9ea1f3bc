// The Python module _C, a thin one beside gridsample_ext_cpu.so: it describes the build.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "cpu/host/explain.h"
#include "library.h"
#include "math/lists.h"

namespace py = pybind11;

namespace {

py::dict build_info() {
  const gridsample_ext::BuildInfo facts = gridsample_ext::build_info();
  py::dict info;
  info["compiler"] = facts.compiler;
  info["cxx_standard"] = facts.cxx_standard;
  info["torch_built_with"] = facts.torch_built_with;
  info["isa"] = facts.isa;
  info["isa_forced"] =
      facts.isa_forced.empty() ? py::object(py::none()) : py::object(py::str(facts.isa_forced));
  info["isa_supported"] = facts.isa_supported;
  info["fast_gathers"] = facts.fast_gathers;
  return info;
}

/// Names and the numbers that the ops take for them.
template <size_t kCount>
py::dict numbered(const char* const (&names)[kCount]) {
  py::dict numbers;
  for (size_t n = 0; n < kCount; ++n) numbers[names[n]] = n;
  return numbers;
}

// Plans: see gridsample_ext/explaining.py.

template <typename T>
py::dict to_dict(const std::vector<std::pair<std::string, T>>& entries) {
  py::dict dict;
  for (const auto& [name, value] : entries) dict[py::str(name)] = value;
  return dict;
}

/// Sizes, strides, dtype, and whether results for it are channels-last.
using Facts = std::tuple<std::vector<int64_t>, std::vector<int64_t>, std::string, bool>;

gridsample_ext::cpu::TensorFacts tensor_facts(const Facts& facts) {
  const auto& [sizes, strides, dtype, channels_last] = facts;
  return {sizes, strides, dtype, channels_last};
}

void bind_plans(py::module_& m) {
  m.def(
      "explain",
      [](const std::string& op, const Facts& input, const Facts& grid, int64_t interpolation_mode,
         int64_t padding_mode, bool align_corners, bool pixel_coordinates, double fill_value,
         std::optional<double> outside_value, double cubic_coefficient,
         const std::optional<Facts>& tangent_input, bool moves_grid, std::pair<bool, bool> wanted,
         bool scattered, uint64_t grid_address, int64_t threads,
         const std::vector<std::string>& without) {
        gridsample_ext::cpu::CallFacts call;
        call.op = op;
        call.input = tensor_facts(input);
        call.grid = tensor_facts(grid);
        if (tangent_input) call.tangent_input = tensor_facts(*tangent_input);
        call.moves_grid = moves_grid;
        call.options = {interpolation_mode, padding_mode,  align_corners,    pixel_coordinates,
                        fill_value,         outside_value, cubic_coefficient};
        std::tie(call.wants_input, call.wants_grid) = wanted;
        call.scattered = scattered;
        call.grid_address = grid_address;
        call.threads = threads;
        call.without = without;
        const gridsample_ext::cpu::Explanation explanation = gridsample_ext::cpu::explain(call);
        py::dict dict;
        dict["paths"] = to_dict(explanation.paths);
        dict["reasons"] = to_dict(explanation.reasons);
        dict["instruction_set"] = explanation.instruction_set;
        dict["threads"] = explanation.threads;
        dict["scratch_bytes"] = to_dict(explanation.memory);
        dict["split"] = to_dict(explanation.split);
        return dict;
      },
      py::arg("op"), py::arg("input"), py::arg("grid"), py::arg("interpolation_mode"),
      py::arg("padding_mode"), py::arg("align_corners"), py::arg("pixel_coordinates") = false,
      py::arg("fill_value") = 0.0, py::arg("outside_value") = py::none(),
      py::arg("cubic_coefficient") = gridsample_ext::kUsualCubic, py::kw_only(),
      py::arg("tangent_input") = py::none(), py::arg("moves_grid") = false,
      py::arg("wanted") = std::pair(true, true), py::arg("scattered") = false,
      py::arg("grid_address") = 0, py::arg("threads") = 0,
      py::arg("without") = std::vector<std::string>(),
      "The plan of a CPU call of checked arguments, given as plain numbers.");
  m.def(
      "executed_paths", [] { return to_dict(gridsample_ext::cpu::executed_paths()); },
      "The paths that this thread's last call of each op took on the CPU, by result.");
  m.def(
      "all_paths", [] { return to_dict(gridsample_ext::cpu::all_paths()); },
      "Every path that there is, by result.");
}

}  // namespace

PYBIND11_MODULE(_C, m, py::mod_gil_not_used()) {
  m.doc() = "Facts about gridsample_ext_cpu.so, which importing this module loads.";
  // Throws now, not at the first call, if the environment asks for what there is not.
  m.attr("kernel_stack") = gridsample_ext::build_info().kernel_stack;  // for tests
  m.attr("MODES") = numbered(gridsample_ext::kModeNames);
  m.attr("PADDING_MODES") = numbered(gridsample_ext::kPaddingNames);
  m.attr("PADDING_PER_AXIS") = gridsample_ext::kPaddingPerAxis;
  m.attr("BITS_OF_PADDING") = gridsample_ext::kBitsOfPadding;
  m.attr("USUAL_CUBIC") = gridsample_ext::kUsualCubic;
  m.def("build_info", &build_info,
        "How the kernels were compiled and which instruction set they use.");
  bind_plans(m);
}
