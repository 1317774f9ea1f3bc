#pragma once

// Whether this process was forked after the library had been loaded.

namespace gridsample_ext {

/// True in a child that fork() made and that has not called exec(). PyTorch's pool of threads does
/// not follow into it: with GNU OpenMP a child that wakes the pool waits for ever.
bool is_forked() noexcept;

}  // namespace gridsample_ext
