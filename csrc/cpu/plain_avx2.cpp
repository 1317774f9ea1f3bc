#include "isa_begin.h"

#if GRIDSAMPLE_X86_LEVELS
#include "isa_avx2.h"
#include "plain.h"
#include "isa_end.h"
#endif
