#include "base/device_caches.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "base/blocked_signals.h"

namespace multipy {

namespace {

constexpr std::chrono::seconds kPatience{2};  // for interpreters that hold their GIL

struct Registry {
  std::mutex mutex;
  std::vector<std::shared_ptr<DeviceCaches::Offer>> offers;
  std::mutex asking;  // held by who has others emptied
};

Registry& registry() {
  static Registry& instance = *new Registry;
  return instance;
}

/// How many threads are still to be done, shared with those that come too late.
struct Countdown {
  std::mutex mutex;
  std::condition_variable changed;
  std::size_t left = 0;
  std::size_t done = 0;
};

}  // namespace

struct DeviceCaches::Offer {
  const void* owner;
  Empty empty;
  std::mutex mutex;
  std::condition_variable idle;
  int running = 0;
  bool withdrawn = false;

  /// False: it was withdrawn.
  bool run() {
    {
      const std::lock_guard lock(mutex);
      if (withdrawn) return false;
      ++running;
    }
    empty();
    const std::lock_guard lock(mutex);
    if (--running == 0) idle.notify_all();
    return true;
  }
};

std::shared_ptr<DeviceCaches::Offer> DeviceCaches::offer(const void* owner, Empty empty) {
  auto made = std::make_shared<Offer>();
  made->owner = owner;
  made->empty = empty;
  const std::lock_guard lock(registry().mutex);
  registry().offers.push_back(made);
  return made;
}

void DeviceCaches::withdraw(const std::shared_ptr<Offer>& offer) {
  {
    const std::lock_guard lock(registry().mutex);
    std::erase(registry().offers, offer);
  }
  std::unique_lock lock(offer->mutex);
  offer->withdrawn = true;
  offer->idle.wait(lock, [&] { return offer->running == 0; });
}

bool DeviceCaches::empty_others(const void* owner) {
  const std::lock_guard one_at_a_time(registry().asking);
  std::vector<std::shared_ptr<Offer>> others;
  {
    const std::lock_guard lock(registry().mutex);
    for (const auto& offer : registry().offers) {
      if (offer->owner != owner) others.push_back(offer);
    }
  }
  const auto countdown = std::make_shared<Countdown>();
  countdown->left = others.size();
  for (const auto& offer : others) {
    const auto run = [offer, countdown] {
      const bool done = offer->run();
      const std::lock_guard lock(countdown->mutex);
      --countdown->left;
      countdown->done += done;
      countdown->changed.notify_all();
    };
    const BlockedSignals blocked;
    try {
      std::thread(run).detach();
    } catch (const std::system_error&) {
      const std::lock_guard lock(countdown->mutex);
      --countdown->left;
    }
  }
  std::unique_lock lock(countdown->mutex);
  countdown->changed.wait_for(lock, kPatience, [&] { return countdown->left == 0; });
  return countdown->done != 0;
}

}  // namespace multipy
