// Starting threads that leave signals alone.
#pragma once

#include <pthread.h>
#include <signal.h>

namespace multipy {

/// While it lives, its thread has signals blocked, and so have for good the threads that this one starts: not even
/// their first instruction can take a signal, which are all the host's. Faults of a thread itself stay deliverable: a
/// debugger or faulthandler of the host must see them.
class BlockedSignals {
 public:
  BlockedSignals() noexcept {
    sigset_t blocked;
    sigfillset(&blocked);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) sigdelset(&blocked, fault);
    pthread_sigmask(SIG_SETMASK, &blocked, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

  /// What was blocked before.
  const sigset_t& before() const noexcept { return before_; }

 private:
  sigset_t before_;
};

}  // namespace multipy
