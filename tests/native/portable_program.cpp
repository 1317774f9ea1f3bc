// What csrc/portable.cpp defines in place of the C++ library: tests/test_wheel.py runs this
// program, which is linked with it.

#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>

namespace {

struct Thrown {
  explicit Thrown(int number) : number(number) { ++alive; }
  Thrown(const Thrown& other) : number(other.number) { ++alive; }
  ~Thrown() { --alive; }
  int number;
  static inline int alive = 0;
};

void throw_and_catch() {
  std::exception_ptr first;
  try {
    throw Thrown(7);
  } catch (...) {
    first = std::current_exception();
  }
  std::exception_ptr second = first, third;
  third = second;
  second = nullptr;
  try {
    std::rethrow_exception(third);
  } catch (const Thrown& thrown) {
    std::printf("thrown: %d\n", thrown.number);
  }
  first = nullptr;
  std::printf("alive while a pointer is left: %d\n", Thrown::alive);
  third = nullptr;
  std::printf("alive after the last: %d\n", Thrown::alive);
}

}  // namespace

int main() {
  throw_and_catch();
  const auto shared = std::make_shared<int>(1);
  const std::shared_ptr<int> other = shared;
  std::printf("owners: %ld\n", shared.use_count());
  try {
    std::printf("%p\n", static_cast<void*>(std::allocator<int64_t>().allocate(SIZE_MAX / 4)));
  } catch (const std::bad_array_new_length&) {
    std::printf("too long\n");
  }
}
