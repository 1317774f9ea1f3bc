#include "cpu/host/isa.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <stdexcept>

// Levels beyond the baseline are compiled where the compiler can switch targets within a program.
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define GRIDSAMPLE_X86_LEVELS 1
#include <cpuid.h>
#else
#define GRIDSAMPLE_X86_LEVELS 0
#endif

// What every CPU of the machine has.
#if defined(__aarch64__)
#define GRIDSAMPLE_LOWEST neon
#else
#define GRIDSAMPLE_LOWEST baseline
#endif
#define GRIDSAMPLE_STRING_OF(name) #name
#define GRIDSAMPLE_STRING(macro) GRIDSAMPLE_STRING_OF(macro)

namespace gridsample_ext {

// Each instruction set has the kernels of two compute types. AVX-512 has those of float32 that gain
// by it; AVX2's are used for the rest, which would cost more to build than they gain.
#define GRIDSAMPLE_DECLARE_VECTOR_KERNELS(isa, type) \
  namespace isa::of_##type {                         \
    extern const ForwardKernels forward_kernels;     \
    extern const BackwardKernels backward_kernels;   \
  }
#define GRIDSAMPLE_DECLARE_OTHER_KERNELS(isa, type)       \
  namespace isa::of_##type {                              \
    extern const SecondOrderKernels second_order_kernels; \
    extern const PlainKernels plain_kernels;              \
  }
#define GRIDSAMPLE_TABLE(isa, other, type)                            \
  {isa::of_##type::forward_kernels, isa::of_##type::backward_kernels, \
   other::of_##type::second_order_kernels, other::of_##type::plain_kernels}

GRIDSAMPLE_DECLARE_VECTOR_KERNELS(GRIDSAMPLE_LOWEST, float)
GRIDSAMPLE_DECLARE_VECTOR_KERNELS(GRIDSAMPLE_LOWEST, double)
GRIDSAMPLE_DECLARE_OTHER_KERNELS(GRIDSAMPLE_LOWEST, float)
GRIDSAMPLE_DECLARE_OTHER_KERNELS(GRIDSAMPLE_LOWEST, double)
#if GRIDSAMPLE_X86_LEVELS
GRIDSAMPLE_DECLARE_VECTOR_KERNELS(avx2, float)
GRIDSAMPLE_DECLARE_VECTOR_KERNELS(avx2, double)
GRIDSAMPLE_DECLARE_OTHER_KERNELS(avx2, float)
GRIDSAMPLE_DECLARE_OTHER_KERNELS(avx2, double)
GRIDSAMPLE_DECLARE_VECTOR_KERNELS(avx512, float)
#endif

namespace {

struct Level {
  const char* name;
  const char* other;  // whose kernels serve for float64, second order and plain loops
  bool supported;
  KernelTable of_float;
  KernelTable of_double;
};

std::string environment_variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// As they were when this library was loaded: what is in force does not change afterwards, and so
/// neither does what is reported.
const std::string isa_variable = environment_variable("GRIDSAMPLE_EXT_ISA");
const std::string gathers_variable = environment_variable("GRIDSAMPLE_EXT_GATHERS");

#if GRIDSAMPLE_X86_LEVELS
/// Asked of the CPU itself: not every compiler's __builtin_cpu_supports knows this name. That the
/// operating system keeps the registers, the levels that come with it have asked.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

const std::vector<Level>& levels() {
  static const std::vector<Level> all = [] {
    std::vector<Level> list{{GRIDSAMPLE_STRING(GRIDSAMPLE_LOWEST),
                             GRIDSAMPLE_STRING(GRIDSAMPLE_LOWEST), true,
                             GRIDSAMPLE_TABLE(GRIDSAMPLE_LOWEST, GRIDSAMPLE_LOWEST, float),
                             GRIDSAMPLE_TABLE(GRIDSAMPLE_LOWEST, GRIDSAMPLE_LOWEST, double)}};
#if GRIDSAMPLE_X86_LEVELS
    __builtin_cpu_init();
    const bool has_avx2 =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
#if defined(GRIDSAMPLE_EMULATE_AVX512)
    const bool has_avx512 = has_avx2;
#else
    const bool has_avx512 =
        has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
    list.push_back({"avx2", "avx2", has_avx2, GRIDSAMPLE_TABLE(avx2, avx2, float),
                    GRIDSAMPLE_TABLE(avx2, avx2, double)});
    list.push_back({"avx512", "avx2", has_avx512, GRIDSAMPLE_TABLE(avx512, avx2, float),
                    GRIDSAMPLE_TABLE(avx2, avx2, double)});
#endif
    return list;
  }();
  return all;
}

const Level& active_level() {
  static const Level* const chosen = [] {
    check_environment();
    const std::string forced = forced_isa();
    const Level* best = &levels().front();
    for (const Level& level : levels()) {
      if (forced.empty() ? level.supported : forced == level.name) best = &level;
    }
    return best;
  }();
  return *chosen;
}

bool are_gathers_fast() {
  if (!gathers_variable.empty()) return gathers_variable == "1";
#if GRIDSAMPLE_X86_LEVELS
  __builtin_cpu_init();
  // Of Intel's without AVX-512 the oldest and the smallest have slow ones.
  if (!__builtin_cpu_is("intel") || !__builtin_cpu_supports("avx512f")) return false;
  std::ifstream report("/sys/devices/system/cpu/vulnerabilities/gather_data_sampling");
  std::string state;
  std::getline(report, state);
  return state.starts_with("Not affected") || state.starts_with("Vulnerable");
#else
  return false;
#endif
}

}  // namespace

const bool fast_gathers = are_gathers_fast();

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const Level& level : levels()) {
    if (level.supported) names.emplace_back(level.name);
  }
  return names;
}

std::string forced_isa() {
  const std::string& value = isa_variable;
  if (value.empty()) return "";
  std::string allowed;
  for (const std::string& name : supported_isas()) {
    if (name == value) return name;
    allowed += (allowed.empty() ? "" : ", ") + name;
  }
  throw std::runtime_error("GRIDSAMPLE_EXT_ISA is '" + value +
                           "', but this build on this CPU supports: " + allowed);
}

void check_environment() {
  forced_isa();
  const std::string& gathers = gathers_variable;
  if (gathers.empty() || gathers == "0" || gathers == "1") return;
  throw std::runtime_error("GRIDSAMPLE_EXT_GATHERS is '" + gathers + "', but has to be 0 or 1");
}

const std::string& active_isa() {
  static const std::string name = active_level().name;
  return name;
}

const KernelTable& kernels_for(const Geometry& geometry) {
  const Level& level = active_level();
  return geometry.compute_in_double ? level.of_double : level.of_float;
}

const char* isa_of(const Geometry& geometry, bool in_vectors) {
  const Level& level = active_level();
  return in_vectors && !geometry.compute_in_double ? level.name : level.other;
}

}  // namespace gridsample_ext
