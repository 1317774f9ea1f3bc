#include "isa_begin.h"

#include "isa_baseline.h"

#include "kernel_table.h"
