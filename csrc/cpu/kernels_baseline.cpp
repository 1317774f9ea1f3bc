#include "isa_begin.h"

#define GRIDSAMPLE_ISA baseline
#define GRIDSAMPLE_WIDE_OFFSETS
#include "kernel_table.h"
