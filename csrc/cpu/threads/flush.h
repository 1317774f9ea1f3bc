#pragma once

// How a thread treats subnormal numbers (torch.set_flush_denormal sets it, for one thread): as what
// they are, or as 0 where they come in or come out.

#include <cstdint>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace gridsample_ext {

#if defined(__SSE__)
inline uint64_t float_control() { return _mm_getcsr(); }
inline void set_float_control(uint64_t control) { _mm_setcsr(static_cast<unsigned>(control)); }
constexpr uint64_t kFlushBits = 0x8040;  // flush to zero, denormals are zero
#elif defined(__aarch64__)
inline uint64_t float_control() {
  uint64_t control = 0;
  asm volatile("mrs %0, fpcr" : "=r"(control));
  return control;
}
inline void set_float_control(uint64_t control) { asm volatile("msr fpcr, %0" : : "r"(control)); }
constexpr uint64_t kFlushBits = uint64_t(1) << 24 | uint64_t(1) << 19;  // FZ, FZ16
#else
inline uint64_t float_control() { return 0; }
inline void set_float_control(uint64_t) {}
constexpr uint64_t kFlushBits = 0;
#endif

/// The flush bits that are set in the calling thread.
inline uint64_t flush_bits() { return float_control() & kFlushBits; }

/// Sets the calling thread's flush bits to `bits`, and restores them at its end.
class FlushLike {
 public:
  explicit FlushLike(uint64_t bits) : before_(flush_bits()) { set(bits); }
  FlushLike(const FlushLike&) = delete;
  FlushLike& operator=(const FlushLike&) = delete;
  ~FlushLike() { set(before_); }

 private:
  static void set(uint64_t bits) {
    const uint64_t control = float_control();
    if ((control & kFlushBits) != bits) set_float_control((control & ~kFlushBits) | bits);
  }
  const uint64_t before_;
};

}  // namespace gridsample_ext
