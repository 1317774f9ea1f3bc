#include "library.h"

#include "cpu/host/isa.h"
#include "cpu/threads/stack.h"

#define GRIDSAMPLE_STRINGIZE_IMPL(x) #x
#define GRIDSAMPLE_STRINGIZE(x) GRIDSAMPLE_STRINGIZE_IMPL(x)

namespace gridsample_ext {
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

}  // namespace

BuildInfo build_info() {
  return {compiler(),
          static_cast<long>(__cplusplus),
          GRIDSAMPLE_STRINGIZE(GRIDSAMPLE_TORCH_VERSION),
          active_isa(),
          forced_isa(),
          supported_isas(),
          fast_gathers,
          kKernelStack};
}

}  // namespace gridsample_ext
