#pragma once

// Which instruction set the kernels run with: the best of this CPU, or the one that the environment
// variable GRIDSAMPLE_EXT_ISA names when this is loaded.

#include <string>
#include <vector>

#include "kernels.h"

// Levels beyond the baseline are compiled where the compiler can switch targets within a program.
#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
#define GRIDSAMPLE_X86_LEVELS 1
#else
#define GRIDSAMPLE_X86_LEVELS 0
#endif

namespace gridsample_ext {

/// The levels compiled in that this CPU supports, lowest first.
std::vector<std::string> supported_isas();

/// The level that GRIDSAMPLE_EXT_ISA forced when this was loaded, or an empty string. Throws
/// std::runtime_error when it names an unknown or unsupported one.
std::string forced_isa();

/// Throws std::runtime_error when GRIDSAMPLE_EXT_ISA or GRIDSAMPLE_EXT_GATHERS cannot be followed.
void check_environment();

/// The level in use, chosen at the first call.
const std::string& active_isa();

/// Whether vector gathers beat loads one by one on this CPU: on Intel's with AVX-512 they do,
/// if the operating system reports that microcode does not slow them down against Downfall; AMD's
/// are loads one by one, and more. GRIDSAMPLE_EXT_GATHERS=0 or 1 overrides it. Results are the
/// same.
extern const bool fast_gathers;

/// The kernels of the level in use.
const KernelTable& active_kernels();

/// The kernels for images like this one: those of the level in use, where it has them.
const KernelTable& kernels_for(const Geometry& geometry, const View& image);

}  // namespace gridsample_ext
