#include "base/thread.h"

#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <memory>
#include <system_error>

namespace multipy {

namespace {

constexpr std::size_t kLeast = 2 << 20;
constexpr std::size_t kWithoutLimit = 64 << 20;

void* run(void* argument) {
  const std::unique_ptr<std::function<void()>> body(static_cast<std::function<void()>*>(argument));
  (*body)();
  return nullptr;
}

}  // namespace

std::size_t main_thread_stack() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kWithoutLimit;
  return std::max(static_cast<std::size_t>(limit.rlim_cur), kLeast);
}

void start_thread(std::size_t stack, std::function<void()> body) {
  auto held = std::make_unique<std::function<void()>>(std::move(body));
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  int failure = ::pthread_attr_setstacksize(&attributes, stack);
  pthread_t thread{};
  if (failure == 0) failure = ::pthread_create(&thread, &attributes, run, held.get());
  ::pthread_attr_destroy(&attributes);
  if (failure != 0) throw std::system_error(failure, std::generic_category());
  held.release();
}

}  // namespace multipy
