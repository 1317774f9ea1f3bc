#pragma once

// The ways that calls can take, by name: one list for each result of an op.
//
// planes: lanes over samples. rows: lanes over channels, which are innermost in memory. packed
// rows: planes, of which blocks of channels are copied into rows. in registers: a few vectors of
// samples, whose taps are not written to memory. plain: one sample after the other, in scalar code.
// docs/call.md describes them.

namespace gridsample_ext::cpu {

#define GRIDSAMPLE_FORWARD_PATHS(PATH)   \
  PATH(kEmpty, "empty")                  \
  PATH(kPlain, "plain")                  \
  PATH(kInRegisters, "in registers")     \
  PATH(kNearestPlanes, "nearest planes") \
  PATH(kNearestRows, "nearest rows")     \
  PATH(kPlanes, "planes")                \
  PATH(kRows, "rows")                    \
  PATH(kPackedRows, "packed rows")

// One walk over the samples, or over those that reach a slab of the image, computes both gradients
// where both are wanted; else each is computed by itself. Samples are picked where a slab takes
// those that reach into it from all over the grid.
#define GRIDSAMPLE_GRAD_INPUT_PATHS(PATH)                  \
  PATH(kNotWanted, "not wanted")                           \
  PATH(kEmpty, "empty")                                    \
  PATH(kPlain, "plain")                                    \
  PATH(kListedTaps, "listed taps")                         \
  PATH(kWalkInRows, "one walk in rows")                    \
  PATH(kWalkInPackedRows, "one walk in packed rows")       \
  PATH(kJointSlabsInPlanes, "joint slabs in planes")       \
  PATH(kJointSlabsInRows, "joint slabs in rows")           \
  PATH(kJointSlabsInRegisters, "joint slabs in registers") \
  PATH(kNearestPlanes, "nearest planes")                   \
  PATH(kNearestRows, "nearest rows")                       \
  PATH(kPlanes, "planes")                                  \
  PATH(kRows, "rows")                                      \
  PATH(kPlanesOfPickedSamples, "planes, picked samples")   \
  PATH(kRowsOfPickedSamples, "rows, picked samples")

#define GRIDSAMPLE_GRAD_GRID_PATHS(PATH)                   \
  PATH(kNotWanted, "not wanted")                           \
  PATH(kEmpty, "empty")                                    \
  PATH(kZero, "zero")                                      \
  PATH(kPlain, "plain")                                    \
  PATH(kWalkInRows, "one walk in rows")                    \
  PATH(kWalkInPackedRows, "one walk in packed rows")       \
  PATH(kJointSlabsInPlanes, "joint slabs in planes")       \
  PATH(kJointSlabsInRows, "joint slabs in rows")           \
  PATH(kJointSlabsInRegisters, "joint slabs in registers") \
  PATH(kPlanes, "planes")                                  \
  PATH(kRows, "rows")                                      \
  PATH(kPackedRows, "packed rows")

// Second order reads images as rows, with lanes over samples where channels are few.
#define GRIDSAMPLE_JVP_PATHS(PATH)                    \
  PATH(kEmpty, "empty")                               \
  PATH(kZero, "zero")                                 \
  PATH(kLinear, "forward pass of the tangent")        \
  PATH(kPlain, "plain")                               \
  PATH(kLanesOverSamples, "rows, lanes over samples") \
  PATH(kLanesOverChannels, "rows, lanes over channels")

#define GRIDSAMPLE_SECOND_GRAD_INPUT_PATHS(PATH) \
  PATH(kNotWanted, "not wanted")                 \
  PATH(kZero, "zero")                            \
  PATH(kPlain, "plain")                          \
  PATH(kListedTaps, "listed taps")               \
  PATH(kRows, "rows")

#define GRIDSAMPLE_SECOND_GRAD_GRID_PATHS(PATH)       \
  PATH(kNotWanted, "not wanted")                      \
  PATH(kZero, "zero")                                 \
  PATH(kLinear, "backward pass of the direction")     \
  PATH(kPlain, "plain")                               \
  PATH(kLanesOverSamples, "rows, lanes over samples") \
  PATH(kLanesOverChannels, "rows, lanes over channels")

#define GRIDSAMPLE_ENUMERATOR(path, name) path,
#define GRIDSAMPLE_NAME(path, name) name,
#define GRIDSAMPLE_DEFINE_PATHS(Path, names, PATHS)                \
  enum class Path { PATHS(GRIDSAMPLE_ENUMERATOR) };                \
  inline constexpr const char* names[] = {PATHS(GRIDSAMPLE_NAME)}; \
  constexpr const char* name_of(Path path) { return names[static_cast<int>(path)]; }

GRIDSAMPLE_DEFINE_PATHS(ForwardPath, kForwardPaths, GRIDSAMPLE_FORWARD_PATHS)
GRIDSAMPLE_DEFINE_PATHS(GradInputPath, kGradInputPaths, GRIDSAMPLE_GRAD_INPUT_PATHS)
GRIDSAMPLE_DEFINE_PATHS(GradGridPath, kGradGridPaths, GRIDSAMPLE_GRAD_GRID_PATHS)
GRIDSAMPLE_DEFINE_PATHS(JvpPath, kJvpPaths, GRIDSAMPLE_JVP_PATHS)
GRIDSAMPLE_DEFINE_PATHS(SecondGradInputPath, kSecondGradInputPaths,
                        GRIDSAMPLE_SECOND_GRAD_INPUT_PATHS)
GRIDSAMPLE_DEFINE_PATHS(SecondGradGridPath, kSecondGradGridPaths, GRIDSAMPLE_SECOND_GRAD_GRID_PATHS)

#undef GRIDSAMPLE_ENUMERATOR
#undef GRIDSAMPLE_NAME
#undef GRIDSAMPLE_DEFINE_PATHS

/// Whether one kernel computes whichever gradients have such a path.
constexpr bool is_joint(GradInputPath path) {
  return path == GradInputPath::kWalkInRows || path == GradInputPath::kWalkInPackedRows ||
         path == GradInputPath::kJointSlabsInPlanes || path == GradInputPath::kJointSlabsInRows ||
         path == GradInputPath::kJointSlabsInRegisters;
}
/// Whether sums are finished before they are stored, and so rounded to grad_grid's own type.
constexpr bool stores_once(GradGridPath path) {
  return path == GradGridPath::kJointSlabsInPlanes ||
         path == GradGridPath::kJointSlabsInRegisters || path == GradGridPath::kPlanes ||
         path == GradGridPath::kRows;
}
constexpr bool is_zero(GradGridPath path) {
  return path == GradGridPath::kEmpty || path == GradGridPath::kZero;
}
constexpr bool is_joint(GradGridPath path) {
  return path == GradGridPath::kWalkInRows || path == GradGridPath::kWalkInPackedRows ||
         path == GradGridPath::kJointSlabsInPlanes || path == GradGridPath::kJointSlabsInRows ||
         path == GradGridPath::kJointSlabsInRegisters;
}

}  // namespace gridsample_ext::cpu
