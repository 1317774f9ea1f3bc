#pragma once

// Memory that the host lends to kernels.

#include <cstddef>
#include <cstdint>
#include <new>

#include "params.h"

namespace gridsample_ext::cpu {

/// Uninitialised values of the compute type, if there is memory for them. If not, the host takes
/// kernels that need none.
class Scratch {
 public:
  Scratch(const Geometry& geometry, int64_t elements) : empty_(elements == 0) {
    if (empty_) return;
    data_ = ::operator new(static_cast<size_t>(elements) * (geometry.compute_in_double ? 8 : 4),
                           std::align_val_t(kAlignment), std::nothrow);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { ::operator delete(data_, std::align_val_t(kAlignment)); }
  bool allocated() const { return empty_ || data_ != nullptr; }
  void* data() const { return data_; }

 private:
  static constexpr size_t kAlignment = 64;
  bool empty_;
  void* data_ = nullptr;
};

}  // namespace gridsample_ext::cpu
