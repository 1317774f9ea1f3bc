// The kernels of csrc/cuda/ as ops of their own, for CPU tensors.

#include <torch/csrc/stable/library.h>

#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "cuda/host/grid_sample.h"
#include "register.h"
#include "schemas.h"

namespace gridsample_emulation {
namespace {

std::mutex mutex;
std::set<std::string> launched;

}  // namespace

void note_launch(const char* name) {
  const std::lock_guard lock(mutex);
  launched.insert(name);
}

}  // namespace gridsample_emulation

/// The kernels that were launched since the last call, a word each; valid until the thread asks
/// again.
extern "C" __attribute__((visibility("default"))) const char* gridsample_ext_emulated_launches() {
  using namespace gridsample_emulation;
  thread_local std::string text;
  const std::lock_guard lock(mutex);
  text.clear();
  for (const std::string& name : std::exchange(launched, {})) text += name + " ";
  return text.c_str();
}

STABLE_TORCH_LIBRARY(gridsample_ext_emulated, m) {
  for (const char* schema : gridsample_ext::kSchemas) m.def(schema);
}

STABLE_TORCH_LIBRARY_IMPL(gridsample_ext_emulated, CPU, m) {
  gridsample_ext::register_ops<gridsample_ext::cuda::Ops>(m);
}
