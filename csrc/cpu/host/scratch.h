#pragma once

// Memory that the host lends to kernels.

#include <cstddef>
#include <cstdint>
#include <new>

#include "cpu/plan/plan.h"

namespace gridsample_ext::cpu {

/// Uninitialised bytes, if there is memory for them.
class Scratch {
 public:
  explicit Scratch(int64_t bytes) : empty_(bytes == 0) {
    if (empty_) return;
    data_ = ::operator new(static_cast<size_t>(bytes), std::align_val_t(kAlignment), std::nothrow);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    if (data_ != nullptr) ::operator delete(data_, std::align_val_t(kAlignment));
  }
  bool missing() const { return !empty_ && data_ == nullptr; }
  void* data() const { return data_; }

 private:
  static constexpr size_t kAlignment = 64;
  bool empty_;
  void* data_ = nullptr;
};

/// What of a plan's memory the host can do without.
class Lent {
 public:
  explicit Lent(const Memory& memory)
      : packed_blocks(memory.packed_blocks),
        shared_block(memory.shared_block),
        partial_sums(memory.partial_sums),
        slab_ranges(memory.slab_ranges),
        listed_taps(memory.listed_taps) {}
  /// Whether all of it was allocated. If not, `without` says what a new plan has to do without.
  bool is_complete(Without& without) const {
    without.packed_blocks |= packed_blocks.missing();
    without.shared_block |= shared_block.missing();
    without.partial_sums |= partial_sums.missing();
    without.slab_ranges |= slab_ranges.missing();
    without.listed_taps |= listed_taps.missing();
    return !(packed_blocks.missing() || shared_block.missing() || partial_sums.missing() ||
             slab_ranges.missing() || listed_taps.missing());
  }
  const Scratch packed_blocks;
  const Scratch shared_block;
  const Scratch partial_sums;
  const Scratch slab_ranges;
  const Scratch listed_taps;
};

}  // namespace gridsample_ext::cpu
