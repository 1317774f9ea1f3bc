#include "isa_begin.h"

#include "isa_baseline.h"

#include "second_order.h"
