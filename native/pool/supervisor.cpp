#include "pool/supervisor.h"

#include <utility>

#include "base/blocked_signals.h"
#include "base/thread.h"

namespace multipy {

std::shared_ptr<Supervisor> Supervisor::create(const sigset_t& signals) {
  constexpr std::size_t kStack = 256 * 1024;
  const auto supervisor = std::make_shared<Supervisor>(signals);
  const BlockedSignals blocked;
  start_thread(kStack, [supervisor] { supervisor->run(); });
  return supervisor;
}

void Supervisor::start(std::shared_ptr<Interpreter> interpreter, void* worker, std::function<void()> ended) {
  const std::lock_guard lock(mutex_);
  orders_.push_back({std::move(interpreter), worker, std::move(ended)});
  changed_.notify_one();
}

void Supervisor::end() {
  const std::lock_guard lock(mutex_);
  over_ = true;
  changed_.notify_one();
}

void Supervisor::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return over_ || !orders_.empty(); });
    if (orders_.empty()) return;
    Order order = std::move(orders_.front());
    orders_.pop_front();
    lock.unlock();
    order.interpreter->start(order.worker, std::move(order.ended), &signals_);
    order = {};
    lock.lock();
  }
}

}  // namespace multipy
