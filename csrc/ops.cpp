// Defines the ops, for all devices.

#include <torch/csrc/stable/library.h>

#include "schemas.h"

STABLE_TORCH_LIBRARY(gridsample_ext, m) {
  for (const char* schema : gridsample_ext::kSchemas) m.def(schema);
}
