#include "base/process_lock.h"

#include <pthread.h>

#include <algorithm>
#include <mutex>
#include <vector>

namespace multipy {

namespace {

struct Guarded {
  ForkOrder order;
  void* what;
  void (*lock)(void*);
  void (*unlock)(void*);
  void (*renew)(void*);
};

struct Forks {
  std::mutex mutex;  // held throughout a fork; nothing is guarded meanwhile
  std::vector<Guarded> guarded;

  Forks() {
    ::pthread_atfork(
        [] {
          instance().mutex.lock();
          for (const auto& each : instance().guarded) each.lock(each.what);
        },
        [] {
          auto& all = instance().guarded;
          for (auto each = all.rbegin(); each != all.rend(); ++each) each->unlock(each->what);
          instance().mutex.unlock();
        },
        [] {
          auto& all = instance().guarded;
          for (auto each = all.rbegin(); each != all.rend(); ++each) each->renew(each->what);
          new (&instance().mutex) std::mutex;
        });
  }

  static Forks& instance() {
    static Forks& forks = *new Forks;
    return forks;
  }
};

}  // namespace

void guard_across_forks(ForkOrder order, void* what, void (*lock)(void*), void (*unlock)(void*), void (*renew)(void*)) {
  Forks& forks = Forks::instance();
  const std::lock_guard held(forks.mutex);
  const auto place = std::upper_bound(forks.guarded.begin(), forks.guarded.end(), order,
                                      [](ForkOrder left, const Guarded& right) { return left < right.order; });
  forks.guarded.insert(place, {order, what, lock, unlock, renew});
}

}  // namespace multipy
