#pragma once

// Labels: integers of any type as numbers of 64 bits, and which of those under a sample's taps has
// the greatest weight.

#include <cstdint>
#include <cstring>

#include "params.h"
#include "math/macros.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// The labels of an unsigned type of 64 bits with the sign turned, so that they are in order.
GRIDSAMPLE_INLINE int64_t in_order(int64_t label, const LabelType& type) {
  const bool turns = type.bytes == 8 && !type.is_signed;
  return turns ? static_cast<int64_t>(static_cast<uint64_t>(label) ^ (uint64_t(1) << 63)) : label;
}

/// A label, in_order.
GRIDSAMPLE_INLINE int64_t load_label(const void* data, int64_t offset, const LabelType& type) {
  switch (type.bytes) {
    case 1:
      return type.is_signed ? int64_t(static_cast<const int8_t*>(data)[offset])
                            : int64_t(static_cast<const uint8_t*>(data)[offset]);
    case 2:
      return type.is_signed ? int64_t(static_cast<const int16_t*>(data)[offset])
                            : int64_t(static_cast<const uint16_t*>(data)[offset]);
    case 4:
      return type.is_signed ? int64_t(static_cast<const int32_t*>(data)[offset])
                            : int64_t(static_cast<const uint32_t*>(data)[offset]);
    default:
      return in_order(static_cast<const int64_t*>(data)[offset], type);
  }
}

GRIDSAMPLE_INLINE void store_label(void* data, int64_t offset, int64_t label,
                                   const LabelType& type) {
  switch (type.bytes) {
    case 1:
      static_cast<uint8_t*>(data)[offset] = static_cast<uint8_t>(label);
      break;
    case 2:
      static_cast<uint16_t*>(data)[offset] = static_cast<uint16_t>(label);
      break;
    case 4:
      static_cast<uint32_t*>(data)[offset] = static_cast<uint32_t>(label);
      break;
    default:
      static_cast<int64_t*>(data)[offset] = in_order(label, type);
  }
}

/// The weights of up to kMost taps, added up by label.
template <typename T, int kMost>
class Votes {
 public:
  GRIDSAMPLE_INLINE void add(int64_t label, T weight) {
    int at = 0;
    while (at < count_ && label_[at] != label) ++at;
    if (at == count_) {
      label_[count_++] = label;
      weight_[at] = weight;
    } else {
      weight_[at] += weight;
    }
  }

  /// The label of the greatest weight, of several the smallest; `otherwise` if no weight is above
  /// 0.
  GRIDSAMPLE_INLINE int64_t winner(int64_t otherwise) const {
    int64_t best = otherwise;
    T most = T(0);
    for (int i = 0; i < count_; ++i) {
      const bool ties = weight_[i] == most && most > T(0) && label_[i] < best;
      if (!(weight_[i] > most || ties)) continue;
      best = label_[i];
      most = weight_[i];
    }
    return best;
  }

 private:
  int count_ = 0;
  int64_t label_[kMost];
  T weight_[kMost];
};

GRIDSAMPLE_NAMESPACE_END
