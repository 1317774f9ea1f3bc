#include "isa_begin.h"

#include "isa_baseline.h"

#include "plain.h"
