#pragma once

#define GRIDSAMPLE_ISA baseline
#define GRIDSAMPLE_VECTOR_BYTES 16
