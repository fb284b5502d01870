// Threads that are ended where they stand: those with C++ code on their stacks sleep instead.
#include <dlfcn.h>
#include <doctest/doctest.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <ctime>
#include <initializer_list>

#include "elf/thread_end.h"
#include "sanitizers.h"

namespace {

using Function = void*(void*);

/// The sample's function, with its reference redirected.
struct Sample {
  Function* exit =
      reinterpret_cast<Function*>(::dlsym(::dlopen(MULTIPY_THREAD_END_SAMPLE, RTLD_NOW | RTLD_LOCAL), "sample_exit"));
  int count = multipy::elf::let_threads_rest(reinterpret_cast<const void*>(exit));
};

const Sample& sample() {
  static const Sample instance;
  return instance;
}

std::atomic<int> begun = 0;
int destroyed = 0;

struct Guard {
  ~Guard() { ++destroyed; }
};

void* with_a_destructor(void* value) {
  const Guard guard;
  ++begun;
  begun.notify_all();
  return sample().exit(value);
}

void* without_a_way_out(void* value) noexcept {
  ++begun;
  begun.notify_all();
  void* result = sample().exit(value);
  ++destroyed;
  return result;
}

/// What joining a thread that runs `function` gives, within a while.
int join(Function* function, void** result, std::time_t seconds) {
  pthread_t thread;
  int value = 0;
  REQUIRE(::pthread_create(&thread, nullptr, function, &value) == 0);
  timespec until{};
  ::clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += seconds;
  const int status = ::pthread_timedjoin_np(thread, result, &until);
  if (status == 0) CHECK(*result == &value);
  return status;
}

}  // namespace

TEST_CASE("a library's reference to pthread_exit is found") {
  REQUIRE(static_cast<bool>(sample().exit));
  CHECK(sample().count == 1);
}

TEST_CASE("a thread that has nothing to unwind ends, with its value" * doctest::skip(kUnderThreadSanitizer)) {
  void* result = nullptr;
  CHECK(join(sample().exit, &result, 60) == 0);
}

TEST_CASE("a thread sleeps that could not be unwound, or would destroy something") {
  for (Function* function : std::initializer_list<Function*>{with_a_destructor, without_a_way_out}) {
    void* result = nullptr;
    const int before = begun;
    CHECK(join(function, &result, 1) == ETIMEDOUT);
    begun.wait(before);
    CHECK(destroyed == 0);
  }
}
