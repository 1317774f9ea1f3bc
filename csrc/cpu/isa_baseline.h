#pragma once

#define GRIDSAMPLE_ISA baseline
#define GRIDSAMPLE_WIDE_OFFSETS
