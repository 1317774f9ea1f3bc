// The Python module _C. Importing it registers the ops; what it offers itself describes the build.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "cpu/host/isa.h"
#include "cpu/threads/stack.h"

#define GRIDSAMPLE_STRINGIZE_IMPL(x) #x
#define GRIDSAMPLE_STRINGIZE(x) GRIDSAMPLE_STRINGIZE_IMPL(x)

namespace py = pybind11;

namespace {

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "gcc " __VERSION__;
#else
  return "unknown";
#endif
}

py::dict build_info() {
  const std::string forced = gridsample_ext::forced_isa();
  py::dict info;
  info["compiler"] = compiler();
  info["cxx_standard"] = static_cast<long>(__cplusplus);
  info["torch_built_with"] = GRIDSAMPLE_STRINGIZE(GRIDSAMPLE_TORCH_VERSION);
  info["isa"] = gridsample_ext::active_isa();
  info["isa_forced"] = forced.empty() ? py::object(py::none()) : py::object(py::str(forced));
  info["isa_supported"] = gridsample_ext::supported_isas();
  info["fast_gathers"] = gridsample_ext::fast_gathers;
  return info;
}

}  // namespace

PYBIND11_MODULE(_C, m, py::mod_gil_not_used()) {
  m.doc() =
      "CPU kernels of gridsample_ext. Importing this module registers torch.ops.gridsample_ext.";
  gridsample_ext::check_environment();  // an error now, not at the first call
  m.def("build_info", &build_info,
        "How the kernels were compiled and which instruction set they use.");
  m.attr("kernel_stack") = gridsample_ext::kKernelStack;  // for tests
}
