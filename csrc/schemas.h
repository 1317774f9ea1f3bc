#pragma once

// The ops' schemas. interpolation_mode: 0 bilinear, 1 nearest, 2 bicubic; padding_mode: 0 zeros,
// 1 border, 2 reflection. What output_mask does not ask for comes back undefined (None in Python).
// deterministic: grad_input bitwise repeatable, which on the CPU it always is.

namespace gridsample_ext {

inline constexpr const char* kSchemas[] = {
    "grid_sample(Tensor input, Tensor grid, int interpolation_mode, int padding_mode, "
    "bool align_corners) -> Tensor",
    "grid_sample_backward(Tensor grad_output, Tensor input, Tensor grid, "
    "int interpolation_mode, int padding_mode, bool align_corners, bool[2] output_mask, "
    "bool deterministic=False) -> (Tensor, Tensor)",
};

}  // namespace gridsample_ext
