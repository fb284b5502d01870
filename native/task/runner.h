// Who runs calls: the worker threads of interpreters, their event loops, and how they are interrupted.
//
// Problem: code that runs in an interpreter must hear an interrupt, also while it sleeps in a wait for a call that
// another interpreter is to run; and of such waits it must be known who waits (see waits.h).
//
// Model: a Runner is one worker thread; each has a number for life, and all are known here. An interpreter has a first
// one, the *home* of the others that it may have. The first may have a second thread, with an event loop: a call may go
// on aside there, while its runner does other things. The home knows these calls, so that they can be interrupted.
//
// Threads and locks: any thread; one mutex, that of the graph of waits, guards all, and is held while a runner is
// interrupted, so that a runner that is being destroyed waits for that. Under it each runner's list of calls that go on
// aside has a mutex of its own. No call's reference is dropped under either.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
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
  using Thread = std::pair<RunnerId, bool>;  // true: that of its event loop

  /// `home`: the first runner of its interpreter; null: it is that itself.
  explicit Runner(std::string name, const Runner* home = nullptr);
  virtual ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  RunnerId id() const noexcept { return id_; }
  const std::string& name() const noexcept { return name_; }
  RunnerId home() const noexcept { return home_; }
  /// Makes this thread the runner's own, or that of its event loop.
  void adopt_thread(bool event_loop = false) noexcept;
  /// Nobody interrupts it from here on. To be called before what interrupt_running() uses goes away.
  void leave() noexcept;
  /// In `servers`, at which anybody may be looking, `successor` stands where `before` did.
  static void replace(Servers& servers, RunnerId before, RunnerId successor) noexcept;

  /// What came of asking for an interrupt: the code runs for no such call; it is interrupted; it runs for other calls,
  /// too, and goes on.
  enum class Reached { nothing, code, shared_code };

  /// Has the user code that `runner` runs just now interrupted, and its sleep ended if it waits, if it is that of
  /// `call`, or of any call of `group`, or, where both are null, whatever it is.
  static Reached interrupt(RunnerId runner, const Call* call, const CallGroup* group) noexcept;
  /// Ends the sleep of its event loop's thread, if it waits.
  void disturb_event_loop();

  /// `call`, which this thread's runner took, goes on beside others. Returns the home of the runner; 0: it is none.
  static RunnerId put_aside(const std::shared_ptr<Call>& call);
  /// Those calls that go on aside whose home is `runner`, one after the other: there may be no memory for all.
  class Asides {
   public:
    explicit Asides(RunnerId runner) noexcept : runner_(runner) {}
    /// Null: there are no more.
    std::shared_ptr<Call> next() noexcept;

   private:
    const RunnerId runner_;
    std::uint64_t last_ = 0;
  };
  /// Has those calls of `runner` that go on aside interrupted, all or those of `group`; with `error` they end first.
  static void interrupt_asides(RunnerId runner, const CallGroup* group, const Payload* error) noexcept;

 protected:
  /// Interrupts what runs if it is of `call` or `group`, see interrupt(). With the graph's mutex held. Throws nothing.
  virtual Reached interrupt_running(const Call* call, const CallGroup* group) = 0;

  // On its thread.
  /// It is about to wait in a call: others may be taken meanwhile. Throws Error if there can be no thread for them.
  virtual void step_aside() {}
  virtual void step_back() noexcept {}
  /// The actor whose call it has; 0: none's. And how that is called in messages.
  virtual std::uint64_t actor() const noexcept { return 0; }
  virtual std::string label() const { return {}; }

  /// The runner that this thread belongs to, or null; and which of its threads it is.
  static Runner* of_this_thread() noexcept;
  static bool is_event_loop() noexcept;

 private:
  friend class Wait;
  /// With the graph's mutex held.
  void disturb(bool event_loop);

  const RunnerId id_;
  const RunnerId home_;
  const std::string name_;
  std::atomic<bool> disturbed_[2] = {false, false};  // its thread, and that of its event loop
  struct Aside {
    std::uint64_t number;  // from 1, in the order in which they came
    std::weak_ptr<Call> call;
  };
  std::mutex asides_mutex_;
  std::vector<Aside> asides_;     // guarded by asides_mutex_; those that have ended are swept out
  std::uint64_t last_aside_ = 0;  // the same
  std::size_t sweep_at_ = 64;     // the same
};

}  // namespace multipy
