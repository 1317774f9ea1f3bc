#pragma once

// PyTorch's own copying and zeroing, on one thread where that matters.

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>

#include "cpu/threads/flush.h"
#include "cpu/threads/fork.h"

namespace gridsample_ext::cpu {

using torch::stable::Tensor;

/// Calls function(part of to, the same part of from) for parts so small that PyTorch does not share
/// them among threads (at::internal::GRAIN_SIZE). `from` may be `to`.
template <typename F>
void in_small_parts(Tensor to, Tensor from, const F& function) {
  constexpr int64_t kGrain = 32768;
  if (to.numel() < kGrain) return function(to, from);
  int64_t longest = 0;
  for (int64_t d = 1; d < to.dim(); ++d) {
    if (to.size(d) > to.size(longest)) longest = d;
  }
  const int64_t size = to.size(longest);
  for (const int64_t half : {int64_t(0), int64_t(1)}) {
    const int64_t begin = half * (size / 2);
    const int64_t length = half == 0 ? size / 2 : size - size / 2;
    in_small_parts(torch::stable::narrow(to, longest, begin, length),
                   torch::stable::narrow(from, longest, begin, length), function);
  }
}

/// to = from, of the same sizes and of any types. A forked child has no other threads; and those of
/// PyTorch's pool need not flush subnormal numbers as the caller does, which matters between
/// float64 and the types that have float32's exponents.
inline void copy(const Tensor& to, const Tensor& from) {
  using torch::headeronly::ScalarType;
  const bool rounds =
      to.scalar_type() != from.scalar_type() &&
      (to.scalar_type() == ScalarType::Double || from.scalar_type() == ScalarType::Double);
  const auto whole = [](Tensor part, const Tensor& values) { torch::stable::copy_(part, values); };
  if (is_forked() || (rounds && flush_bits() != 0)) {
    in_small_parts(to, from, whole);
  } else {
    whole(to, from);
  }
}

inline void zero(const Tensor& tensor) {
  const auto whole = [](Tensor part, const Tensor&) { torch::stable::zero_(part); };
  if (is_forked()) {
    in_small_parts(tensor, tensor, whole);
  } else {
    whole(tensor, tensor);
  }
}

}  // namespace gridsample_ext::cpu
