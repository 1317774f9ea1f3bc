// Symbols that libstdc++'s headers ask for since GCC 11 and 12, and that a machine of
// manylinux_2_28 (glibc 2.28, the libstdc++ of GCC 8) has not. Each library links these
// definitions, which are hidden: the library uses its own, on new machines as well, and offers them
// to no other. Functions have the C++ library's mangled names, so that none of its declarations is
// repeated here. csrc/portable.py says what else a portable library needs.

#include <new>

#if defined(__GLIBCXX__)
#include <unwind.h>

// Weak, so that definitions in a C++ library that is linked statically take precedence.
#define GRIDSAMPLE_PORTABLE extern "C" __attribute__((weak, visibility("hidden")))

// glibc 2.32. While it is not 0, shared_ptr counts without atomic operations. 0 is always
// right: processes with threads see it, and PyTorch starts threads.
GRIDSAMPLE_PORTABLE char __libc_single_threaded;
char __libc_single_threaded = 0;

// GLIBCXX_3.4.29, std::__throw_bad_array_new_length(): std::allocator calls it for sizes past
// PTRDIFF_MAX.
GRIDSAMPLE_PORTABLE void gridsample_throw_bad_array_new_length() asm(
    "_ZSt28__throw_bad_array_new_lengthv");
void gridsample_throw_bad_array_new_length() { throw std::bad_array_new_length(); }

// CXXABI_1.3.13. Copying and destroying a std::exception_ptr were functions of libstdc++.so, and
// are inline since, with calls of these two. A std::exception_ptr is the address of the thrown
// object.

// std::exception_ptr's constructor from an address (CXXABI_1.3.11) counts one reference more.
extern "C" void gridsample_exception_ptr(void** self, void* thrown) noexcept
    asm("_ZNSt15__exception_ptr13exception_ptrC1EPv");

// std::exception_ptr::_M_addref(), by a copy that is never destroyed.
GRIDSAMPLE_PORTABLE void gridsample_exception_addref(void** self) noexcept
    asm("_ZNSt15__exception_ptr13exception_ptr9_M_addrefEv");
void gridsample_exception_addref(void** self) noexcept {
  void* copy;
  gridsample_exception_ptr(&copy, *self);
}

// std::exception_ptr::_M_release(): by the C++ ABI of Itanium an _Unwind_Exception ends where the
// thrown object begins, and to delete it releases a reference; the last one destroys the object.
GRIDSAMPLE_PORTABLE void gridsample_exception_release(void** self) noexcept
    asm("_ZNSt15__exception_ptr13exception_ptr10_M_releaseEv");
void gridsample_exception_release(void** self) noexcept {
  _Unwind_DeleteException(static_cast<_Unwind_Exception*>(*self) - 1);
  *self = nullptr;
}

#endif
