// The Python module _C, a thin one beside gridsample_ext_cpu.so: it describes the build.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

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

}  // namespace

PYBIND11_MODULE(_C, m, py::mod_gil_not_used()) {
  m.doc() = "Facts about gridsample_ext_cpu.so, which importing this module loads.";
  // Throws now, not at the first call, if the environment asks for what there is not.
  m.attr("kernel_stack") = gridsample_ext::build_info().kernel_stack;  // for tests
  m.attr("MODES") = numbered(gridsample_ext::kModeNames);
  m.attr("PADDING_MODES") = numbered(gridsample_ext::kPaddingNames);
  m.def("build_info", &build_info,
        "How the kernels were compiled and which instruction set they use.");
}
