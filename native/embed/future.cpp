// A future is a call of the core; see multipy_actors/future.h.
#include "multipy_actors/future.h"

#include "outcome.h"

namespace multipy_actors {

detail::PendingCall& Future::call() const {
  if (call_ == nullptr) throw Error("the future is of no call");
  return *call_;
}

bool Future::done() const { return call().call->done(); }

Value Future::get() const { return value_of(call().call); }

void Future::wait() const { multipy_actors::wait_for(*call().call); }

std::future_status Future::wait_until(std::chrono::steady_clock::time_point deadline) const {
  return multipy_actors::wait_for(*call().call, deadline) ? std::future_status::ready : std::future_status::timeout;
}

bool Future::cancel(bool interrupt) const {
  multipy::Call& pending = *call().call;
  const bool cancelled = pending.cancel();
  if (!cancelled && interrupt) pending.interrupt();
  return cancelled || pending.state() == multipy::CallState::cancelled;
}

}  // namespace multipy_actors
