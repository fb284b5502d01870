// Who runs calls, and which of them wait for a call themselves.
//
// Problem: code that runs in an interpreter may wait for a call that another interpreter is to run. If that one waits
// for the first, none will ever go on; and an interpreter that sleeps in such a wait must still hear an interrupt.
//
// Model: a Runner is one worker thread; each has a number for life, and all are known here. A runner about to sleep
// for a call says so with a Wait, which enters it into the graph of waits. A call that runs depends on its runner; one
// that is queued, or for which there is no room yet, on any one of those that serve its mailbox. So a wait is hopeless
// if, after removing again and again every waiter one of whose dependencies may go on, it is still there. The
// last wait that closes a circle finds that out. One that is for something queued throws (whoever enters last depends
// on chance, but what is queued closed the circle, and can be taken back); the others then go on.
//
// A wait with a deadline ends by itself, and so does one of a thread that is no runner: neither is ever hopeless.
//
// A call may also go on aside, on an event loop, while its runner does other things. The runner knows these, so that
// they can be interrupted; nobody waits in vain for one of them, as far as can be told.
//
// Threads and locks: any thread; one mutex guards all, and is held while a runner is interrupted, so that a runner that
// is being destroyed waits for that. Under it each runner's list of calls that go on aside has a mutex of its own.
// No call's reference is dropped under either.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/export.h"

namespace multipy {

class Call;
struct CallGroup;
struct Payload;

using RunnerId = std::uint64_t;  // from 1; 0 is nobody
using Servers = std::vector<RunnerId>;

class MULTIPY_API Runner {
 public:
  explicit Runner(std::string name);
  virtual ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  RunnerId id() const noexcept { return id_; }
  const std::string& name() const noexcept { return name_; }
  /// Makes this thread the runner's own.
  void adopt_thread() noexcept;
  /// Nobody interrupts it from here on. To be called before what interrupt_running() uses goes away.
  void leave();

  /// Has the user code that `runner` runs just now interrupted, and its sleep ended if it waits, if it is that of
  /// `call`, or of any call of `group`. Either may be null.
  static void interrupt(RunnerId runner, const Call* call, const CallGroup* group);

  /// `call`, which this thread's runner took, goes on beside others.
  static void put_aside(const std::shared_ptr<Call>& call);
  /// Has those calls of `runner` that go on aside interrupted, all or those of `group`; with `error` they end first.
  static void interrupt_asides(RunnerId runner, const CallGroup* group, const Payload* error);

 protected:
  /// Interrupts what runs if it is of `call` or `group`; false if it is not. With the graph's mutex held.
  virtual bool interrupt_running(const Call* call, const CallGroup* group) = 0;

 private:
  friend class Wait;
  const RunnerId id_;
  const std::string name_;
  std::atomic<bool> disturbed_ = false;
  std::mutex asides_mutex_;
  std::vector<std::weak_ptr<Call>> asides_;  // guarded by asides_mutex_; those that have ended are swept out
  std::size_t sweep_at_ = 64;                // the same
};

/// Stands for the sleep of this thread until a call is done, or until there is room in a mailbox.
class MULTIPY_API Wait {
 public:
  /// For `call`, which any of `servers` can take. Throws DeadlockError, which tells the circle, if the wait could never
  /// end. Nothing to do if this thread is no runner. With `finite` the wait has a deadline.
  Wait(Call* call, std::shared_ptr<const Servers> servers, bool finite);
  /// For one of `servers` to take something from their mailbox, of the actor `label`; sleeps on the futex word `room`,
  /// which changes whenever it should look around. Throws as above.
  Wait(std::atomic<std::uint32_t>& room, std::string label, std::shared_ptr<const Servers> servers, bool finite);
  ~Wait();
  Wait(const Wait&) = delete;
  Wait& operator=(const Wait&) = delete;

  /// Whether the runner was interrupted since it last asked. Throws DeadlockError if a circle that another wait closed
  /// was found to end here.
  bool disturbed();

 private:
  friend class Runner;
  /// Enters the graph, or throws.
  void enter();
  /// Ends the sleep, so that it looks around.
  void disturb() noexcept;
  bool may_go_on(const std::vector<Wait*>& stuck) const;
  /// Whether what it waits for has not begun.
  bool is_for_what_is_queued() const noexcept;
  std::string describe() const;

  Runner* const runner_;
  Call* const call_;
  std::atomic<std::uint32_t>* const room_;  // null if it is for a call
  const std::string label_;
  const std::shared_ptr<const Servers> servers_;
  const bool finite_;
  std::string hopeless_;  // why it is to throw; guarded by the graph's mutex
};

}  // namespace multipy
