#include "base/device_caches.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "base/blocked_signals.h"
#include "base/process_lock.h"

namespace multipy {

namespace {

struct Registry {
  ProcessLock<std::mutex> mutex{ForkOrder::gpu_caches};
  std::condition_variable changed;  // `asking`, or what a round has still open
  std::vector<std::shared_ptr<DeviceCaches::Offer>> offers;
  std::vector<const void*> asking;  // owners that have others emptied now, once for each thread that does

  bool is_asking(const void* owner) const { return std::find(asking.begin(), asking.end(), owner) != asking.end(); }
};

Registry& registry() {
  static Registry& instance = *new Registry;
  return instance;
}

/// Notes that an owner has others emptied, while it lives.
class Asking {
 public:
  explicit Asking(const void* owner) : owner_(owner) {
    const std::lock_guard lock(registry().mutex);
    registry().asking.push_back(owner_);
    registry().changed.notify_all();
  }
  ~Asking() {
    const std::lock_guard lock(registry().mutex);
    auto& asking = registry().asking;
    asking.erase(std::find(asking.begin(), asking.end(), owner_));
  }
  Asking(const Asking&) = delete;
  Asking& operator=(const Asking&) = delete;

 private:
  const void* const owner_;
};

/// The offers that one owner has taken up, shared with threads that come too late. Guarded by the registry's mutex.
struct Round {
  std::vector<std::shared_ptr<DeviceCaches::Offer>> open;
  bool has_emptied = false;
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

bool DeviceCaches::empty_others(const void* owner, std::chrono::milliseconds patience) {
  const Asking asking(owner);
  const auto round = std::make_shared<Round>();
  std::unique_lock<std::mutex> lock(registry().mutex);
  for (const auto& offer : registry().offers) {
    if (offer->owner != owner) round->open.push_back(offer);
  }
  if (round->open.empty()) return false;
  // Whoever asks as well has given back already what it had, and may hold locks until it is answered.
  const auto leave_out_who_asks = [&] {
    const auto gone = std::erase_if(round->open, [](const auto& offer) { return registry().is_asking(offer->owner); });
    round->has_emptied |= gone != 0;
    return round->open.empty();
  };
  leave_out_who_asks();
  const auto others = round->open;
  lock.unlock();
  for (const auto& offer : others) {
    const auto run = [offer, round] {
      const bool done = offer->run();
      const std::lock_guard locked(registry().mutex);
      std::erase(round->open, offer);
      round->has_emptied |= done;
      registry().changed.notify_all();
    };
    const BlockedSignals blocked;
    try {
      std::thread(run).detach();
    } catch (const std::system_error&) {
      const std::lock_guard locked(registry().mutex);
      std::erase(round->open, offer);
    }
  }
  lock.lock();
  registry().changed.wait_for(lock, patience, leave_out_who_asks);
  return round->has_emptied;
}

}  // namespace multipy
