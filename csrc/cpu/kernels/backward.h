#pragma once

// The kernels of the backward pass: compiled together, for what they share.

#include "cpu/kernels/backward_slabs.h"
#include "cpu/kernels/backward_walk.h"
#include "cpu/kernels/grad_grid.h"
#include "cpu/kernels/grad_input.h"

GRIDSAMPLE_NAMESPACE_BEGIN

extern const BackwardKernels backward_kernels;
const BackwardKernels backward_kernels{
    backward,         backward_slabs, backward_slabs_in_registers,
    grad_input,       slab_ranges,    grad_grid,
    finish_grad_grid, affine_sums,    pack,
    grad_grid_packed};

GRIDSAMPLE_NAMESPACE_END
