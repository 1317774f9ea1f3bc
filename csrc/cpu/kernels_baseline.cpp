#include "isa_begin.h"

#define GRIDSAMPLE_ISA baseline
#include "kernel_table.h"
