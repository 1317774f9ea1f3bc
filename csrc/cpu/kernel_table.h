#pragma once

#include "backward.h"
#include "backward_slabs.h"
#include "forward.h"
#include "grad_grid.h"
#include "grad_input.h"

GRIDSAMPLE_NAMESPACE_BEGIN
extern const SecondOrderTable second_order_table;
extern const PlainTable plain_table;
extern const KernelTable kernel_table;
const KernelTable kernel_table{forward,
                               forward_packed,
                               backward,
                               backward_slabs,
                               pack,
                               grad_grid_packed,
                               slab_ranges,
                               grad_input,
                               grad_grid,
                               finish_grad_grid,
                               &second_order_table,
                               &plain_table};
GRIDSAMPLE_NAMESPACE_END
