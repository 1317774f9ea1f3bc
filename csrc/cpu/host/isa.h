#pragma once

// Which instruction set the kernels run with: the best of this CPU, or the one that the environment
// variable GRIDSAMPLE_EXT_ISA names when this is loaded.

#include <string>
#include <vector>

#include "cpu/kernels/table.h"

namespace gridsample_ext {

/// The levels compiled in that this CPU supports, lowest first.
std::vector<std::string> supported_isas();

/// The level that GRIDSAMPLE_EXT_ISA forced when this was loaded, or an empty string. Throws
/// std::runtime_error when it names an unknown or unsupported one.
std::string forced_isa();

/// Throws std::runtime_error when GRIDSAMPLE_EXT_ISA or GRIDSAMPLE_EXT_GATHERS cannot be followed.
void check_environment();

/// The level in use, chosen at the first call, which throws as check_environment() does.
const std::string& active_isa();

/// The kernels of the level in use for a call's compute type.
const KernelTable& kernels_for(const Geometry& geometry);

/// The instruction set of these kernels: those of the first order, with vectors, or the others.
const char* isa_of(const Geometry& geometry, bool in_vectors);

}  // namespace gridsample_ext
