// Who waits for which calls, and which of these waits could never end.
//
// Problem: code that runs in an interpreter may wait for a call that another interpreter is to run. If that one waits
// for the first, none will ever go on.
//
// Model: a graph, whose nodes are Waiters: threads of runners that sleep (Wait), and calls that go on aside, on an
// event loop, and await others (Await). Each waits until some of its calls are done, or until there is room in a
// mailbox. A call that runs depends on the thread that runs it; one that goes on aside on the thread of the event loop,
// and on what it awaits itself, or, while its actor runs as many as it may, on any of these. One that is queued, or for
// which there is no room yet, depends on what its actor does in any one of the interpreters that serve its mailbox; if
// it is of no actor, on nothing, since who waits makes room for others. So a wait is hopeless if, after removing again
// and again every waiter that may go on because of the others, it is still there.
//
// The wait that closes a circle finds that out, and so does a call that begins to wait for its turn on an event loop.
// One of the circle is told, which throws: one that waits for something queued if there is one (whoever enters last
// depends on chance, but what is queued closed the circle, and can be taken back). The others then go on.
//
// What a coroutine awaits may not be all that it goes on with: it may have set a time limit, or be a task beside
// others. So before anybody in a circle is told, the event loops of the Awaits in it are asked whether these really
// wait.
//
// A wait with a deadline ends by itself, and so does one of a thread that is no runner: neither is ever hopeless.
//
// Threads and locks: any thread; the graph's mutex guards all. A search looks only at what can be reached from where
// something changed. Queues are pushed to and sleepers woken with the mutex held, and no call's reference is dropped.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/export.h"
#include "task/runner.h"

namespace multipy {

class CompletionQueue;
struct Backlog;

/// A node of the graph.
class MULTIPY_API Waiter {
 public:
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

 protected:
  friend struct Search;
  Waiter() = default;
  ~Waiter() = default;

  /// Has it look around, as it was told or asked something. If this throws, it was not.
  virtual void disturb() = 0;
  /// Whether it ends by itself.
  virtual bool ends_by_itself() const noexcept = 0;
  /// Whether it is known to wait for nothing else; if not, it finds out.
  virtual bool is_certain() { return true; }
  virtual std::string who() const = 0;

  // All guarded by the graph's mutex.
  std::vector<Call*> calls_;
  std::size_t needed_ = 1;  // so many of them are to be done
  // Without calls: for room in the mailbox that these serve; whose it is, and what its calls share.
  std::shared_ptr<const Servers> room_in_ = {};
  std::uint64_t actor_ = 0;
  std::size_t at_once_ = 1;
  std::string label_;
  const Backlog* backlog_ = nullptr;
  std::string hopeless_;  // why it is to throw
};

/// Stands for the sleep of this thread. Nothing to do if that is no runner's; with `finite` the wait has a deadline.
/// The constructors throw DeadlockError, which tells the circle, if the wait could never end.
class MULTIPY_API Wait final : public Waiter {
 public:
  /// For `call`.
  Wait(Call* call, bool finite);
  /// For `needed` of `calls`; it sleeps in `queue`.
  Wait(std::vector<Call*> calls, std::size_t needed, CompletionQueue& queue, bool finite);
  /// For one of `servers` to take something from their mailbox, of the actor `actor`, called `label`, which runs
  /// `at_once` calls; sleeps on the word `room` of its `backlog`, which changes whenever it should look around.
  Wait(Backlog& backlog, std::uint64_t actor, std::size_t at_once, std::string label,
       std::shared_ptr<const Servers> servers, bool finite);
  ~Wait();

  /// Goes on waiting for the others of its calls. Throws as above.
  void leave_out(const Call& call);
  /// Whether the runner was interrupted since it last asked. Throws DeadlockError if a circle that another wait closed
  /// was found to end here.
  bool disturbed();
  /// Whether others may be run by this thread's interpreter meanwhile, perhaps what is waited for.
  bool made_room() const noexcept { return entered_ && !is_event_loop_; }

 private:
  friend class Runner;
  Wait(bool finite, Backlog* room, CompletionQueue* queue);
  void enter();
  void leave() noexcept;
  /// With the graph's mutex held.
  void look();
  void disturb() noexcept override;
  bool ends_by_itself() const noexcept override { return finite_; }
  std::string who() const override;
  Runner::Thread thread() const noexcept;

  Runner* const runner_;
  const bool is_event_loop_;
  const bool finite_;
  Backlog* const room_ = nullptr;
  CompletionQueue* const queue_ = nullptr;
  const std::uint64_t waiting_actor_;  // whose call waits; 0: none's
  const std::string waiting_label_;
  bool entered_ = false;
  std::atomic<bool> told_ = false;
};

/// Stands for a job on an event loop, of one call or several that run as one, and what it awaits: it goes on with the
/// first of these calls that is done. All members but those of Waiter are for the thread of the loop.
class MULTIPY_API Await final : public Waiter, public std::enable_shared_from_this<Await> {
 public:
  /// `job` goes on aside, all in the same actor.
  explicit Await(std::vector<std::shared_ptr<Call>> job);
  ~Await();

  /// It awaits `call`, too. If it turns out to do so in vain, or is to say whether it is certain, a call of the job is
  /// pushed to its queue of interrupts.
  void add(std::shared_ptr<Call> call);
  void remove(const Call& call);

  /// Why it could never go on; empty: it can.
  std::string hopeless() const;
  /// Whether it is to answer if it goes on with nothing else.
  bool asked() const;
  /// Until the next look_again() or change `certain` holds.
  void answer(bool certain);
  void look_again();

 private:
  enum class Certainty { unknown, asked, certain, excused };
  void enter_graph();
  void leave_graph() noexcept;  // also what was entered in part
  void disturb() override;
  bool ends_by_itself() const noexcept override { return certainty_ == Certainty::excused; }
  bool is_certain() override;
  std::string who() const override;

  const std::vector<std::shared_ptr<Call>> job_;
  std::vector<std::shared_ptr<Call>> awaited_;  // as calls_
  Certainty certainty_ = Certainty::unknown;    // guarded by the graph's mutex
};

/// `call`, which goes on aside, now depends on other things than before: a circle may have been closed so.
void look_for_circles(const Call& call);

}  // namespace multipy
