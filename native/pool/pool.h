// The interpreters of one pool, and the dispatcher that feeds them.
//
// A Pool owns the dispatcher, one return queue per interpreter and the interpreters. Interpreter threads hold a
// reference to the pool for as long as they run, so a pool may be dropped at any time: nothing dangles, and what an
// abandoned interpreter still does meets a closed dispatcher.
//
// Life: construct (any thread) → start → wait_started → post calls through dispatcher() → close → join. Calls that
// nobody can serve any more (an interpreter failed or ended) are abandoned: they fail with an error that says so.
//
// An interpreter whose worker loop fails, or is over before the pool is closed, is lost: what it has in hand and what
// nobody else can take fails at once. With `restarts` it is replaced. Still on its thread, a new one and its worker are
// made and take over its place and its seat in the dispatcher; calls that may be tried again are put back. Then each
// resident, an actor that is at home there, says what makes it anew or moves out. The supervisor starts the new thread,
// whose first calls are the setup and what the residents said. Meanwhile the lost one comes to its end; coroutines that
// may be tried again may end in it. One that is lost before it has taken any other call than the setup, or that gives
// up by itself, is not replaced; nor is one of a closed pool for which no calls are left. What is kept of those before
// lives as long as the pool, as anybody may be looking at it.
#pragma once

#include <unistd.h>

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/export.h"
#include "exchange/return_queue.h"
#include "interpreter/interpreter.h"
#include "pool/dispatcher.h"
#include "task/completion_queue.h"
#include "task/runner.h"

namespace multipy {

class Pool;
class Supervisor;

/// What an interpreter's own code knows of one of its threads that run calls; handed to its extension module as an
/// opaque pointer.
///
/// An interpreter has a first worker, its *home*, whose thread is Python's main one. Others are made so that there is
/// one more than there are calls under way; their threads end when they have not been needed for a while.
///
/// What can be interrupted on such a thread happens in turns: from begin() to end() it runs for one call, or for
/// several as one. Turns have numbers, unlike all others of the interpreter's, as calls' addresses are used again.
///
/// Threads: begin() and end() on the worker's thread, all else on any. Whoever looks at what runs is counted meanwhile,
/// and end() waits for that, so that no call goes away under them. A mutex guards the list of workers.
struct MULTIPY_API Worker final : Runner {
  using Calls = std::vector<std::shared_ptr<Call>>;

  Worker(Pool& pool, std::size_t index, std::string name, Interpreter& interpreter);
  /// One more of the interpreter of `first`.
  explicit Worker(Worker& first);
  ~Worker() override;

  Pool& pool;
  const std::size_t index;
  Interpreter& interpreter;
  Worker& home;
  const std::shared_ptr<ReturnQueue> returns;  // releases of what this interpreter exported
  std::shared_ptr<Pool> kept;                  // by threads that go on for ever; null: there are none
  Dispatcher::Desk desk;
  // The thread's own: what was delivered to it last. The worker loop may fail anywhere, and then this is what tells of
  // the calls that it has not ended.
  Calls in_hand;
  int redeliveries = 0;           // of what is in hand
  std::int64_t in_force = -1;     // the number of the actor for which its thread is set up; see worker/thread_state.py
  std::uint64_t named_after = 0;  // the number of the actor whose name its thread bears; 0: the interpreter's
  // Of the home, for all.
  std::atomic<std::uint64_t> deliveries = 0;
  std::size_t prepared = 0;            // how many deliveries came before all calls, if it replaces another
  std::string gave_up;                 // why it could not be set up: no other is to try again
  std::atomic<bool> lost = false;      // a loop is over, and the pool was told
  std::atomic<bool> replaced = false;  // and another is in its place

  /// User code of `call` runs from here on. False: it is not to, as an interrupt has come already.
  bool begin(Call& call);
  /// The same of `calls`, one or more, as one. False if none of them is to run.
  bool begin(Calls calls);
  void end() noexcept;
  /// The number of the turn under way; 0: there is none.
  std::uint64_t turn() const noexcept { return running_.load() == nullptr ? 0 : turn_.load(); }
  /// Whether this thread is the worker's.
  bool is_here() const noexcept;
  /// The worker of this thread if it is one of this interpreter, else the home.
  Worker& here() noexcept;
  /// The call whose turn it is, on the worker's thread; null: none's.
  Call* running() const noexcept { return running_.load(); }
  /// Ends the calls of `group` whose turn it is, for who waits for them, and has their code interrupted until it ends.
  void end_running_of(const CallGroup& group, Clock::duration patience) noexcept;
  /// The workers of the interpreter, by number, the home first; null: there are no more.
  Worker* of_crew(std::size_t number) const noexcept;
  /// Starts the thread of one more, from the thread of one; an errno if there can be none.
  int start_another();
  /// The thread of a worker that is not the home has ended.
  void rest() noexcept;

 protected:
  Reached interrupt_running(const Call* call, const CallGroup* group) override;
  void step_aside() override;
  void step_back() noexcept override;
  std::uint64_t actor() const noexcept override;
  std::string label() const override;

 private:
  class Look;

  std::atomic<std::uint64_t> turns_ = 0;  // of the home: how many there have been
  std::atomic<std::uint64_t> turn_ = 0;
  std::atomic<Call*> running_ = nullptr;  // or the first of batch_
  Calls batch_;                           // unchanged while running_ is set
  mutable std::atomic<std::uint32_t> looking_ = 0;
  mutable std::mutex crew_mutex_;
  std::vector<std::unique_ptr<Worker>> others_;  // of the home; guarded by crew_mutex_
  bool has_thread_ = false;                      // guarded by the home's
};

/// Who is at home in interpreters, and cares when one is replaced.
class MULTIPY_API Resident {
 public:
  Resident() = default;
  Resident(const Resident&) = delete;
  Resident& operator=(const Resident&) = delete;
  virtual ~Resident();
  /// `interpreter` has ended, as `error` says, and another takes its place. Returns the call that makes the resident
  /// anew in it; null if it is at home there no more, or if that is queued already.
  /// Where there is no memory for that it throws std::bad_alloc, and the other one will not be.
  virtual std::shared_ptr<Call> move_in(std::size_t interpreter, const Payload& error) = 0;
};

class MULTIPY_API Pool : public std::enable_shared_from_this<Pool> {
 public:
  /// One interpreter per entry of `interpreters`; with `restarts`, those that end are replaced.
  explicit Pool(std::vector<InterpreterOptions> interpreters, std::string name = {}, bool restarts = false);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  std::size_t size() const noexcept { return options_.size(); }
  Dispatcher& dispatcher() noexcept { return dispatcher_; }
  /// The one that is there now, and its worker.
  Interpreter& interpreter(std::size_t index) const { return worker(index).interpreter; }
  /// Those that have not ended, whether they are still there or were replaced.
  std::vector<const Worker*> not_ended() const;
  const Worker& worker(std::size_t index) const;
  /// Whoever was in that place, by number, the first one first; null: there were no more.
  const Worker* tenant(std::size_t index, std::size_t number) const noexcept;
  bool restarts() const noexcept { return restarts_; }
  /// How often the interpreter was replaced.
  std::uint64_t restarts_of(std::size_t index) const { return places_.at(index).restarts.load(); }
  /// Each interpreter that replaces another first runs `request`, after those that were kept before. Where none are
  /// replaced it is dropped at once, with what its attachments hold.
  void keep_setup(Payload request);
  /// For residents: to be told of interpreters that are replaced, in the order of their numbers, until remove().
  void add(std::uint64_t number, const std::shared_ptr<Resident>& resident);
  void remove(std::uint64_t number) noexcept;
  const std::string& name() const noexcept { return name_; }
  /// The mailbox that all interpreters serve, and the one that only `index` does.
  Dispatcher::MailboxId any_mailbox() const noexcept { return any_mailbox_; }
  Dispatcher::MailboxId own_mailbox(std::size_t index) const { return own_mailboxes_.at(index); }
  /// The `replicas` interpreters with the fewest actors, `avoided` last of its equals; they count as having one more.
  std::vector<std::size_t> place(std::size_t replicas, std::optional<std::size_t> avoided = std::nullopt);
  /// `interpreter` counts as having `change` more actors.
  void count_actors(std::size_t interpreter, int change);
  bool closed() const noexcept { return closed_.load(std::memory_order_acquire); }
  /// This is a forked child, in which none of its threads goes on.
  bool is_lost() const noexcept { return process_ != ::getpid(); }

  /// What the interpreters tell the host without waiting for it; closed when all of them have ended.
  const std::shared_ptr<CompletionQueue>& messages() const noexcept { return messages_; }

  /// Boots all interpreters in parallel.
  void start();
  /// Waits for all; throws StartError with the first failure.
  WaitResult wait_started(Deadline deadline);
  /// Raises Interrupted in whatever calls run now; those that are about to run do not begin.
  void interrupt_running() noexcept;
  bool interrupted() const noexcept { return interrupted_.load(); }
  /// The loop of `worker` has failed, or is over before the pool is closed; on its thread.
  void lost(Worker& worker) noexcept;
  /// No more calls; what is queued still runs.
  void close() noexcept;
  /// Waits for all threads to leave Python.
  WaitResult join(Deadline deadline);

 private:
  /// The interpreters that are and were there, the last one last.
  struct Place {
    struct Tenancy {
      std::shared_ptr<Interpreter> interpreter;  // its thread holds it, too
      std::unique_ptr<Worker> worker;            // freed with the pool, which the interpreter's thread holds
    };
    std::deque<Tenancy> tenancies;  // guarded by keeping_mutex_; grows on the thread of the last one alone
    std::atomic<Worker*> now = nullptr;
    std::atomic<std::uint64_t> restarts = 0;
  };

  /// Whether, though the pool is closed, calls are left for another in the place of `worker`.
  bool is_awaited(const Worker& worker) const;
  /// Whether `call`, one of `in_hand` that the threads of `worker` had in hand, goes on in another.
  bool goes_on(const Call& call, const Worker& worker, std::size_t in_hand) const;
  /// What calls fail with that an interpreter which has ended will not run.
  Payload end_of(const Worker& worker) const noexcept;
  Worker& make_tenancy(std::size_t index);
  std::function<void()> at_end_of(Worker& worker);
  void ended(Worker& worker) noexcept;
  void retire(Worker& worker, const Payload& error) noexcept;
  void put_back(CallList calls, const Payload& error) noexcept;
  /// Puts another into the place of an interpreter that is lost; false if that cannot be.
  bool replace(Worker& worker, const Payload& error) noexcept;
  /// `next` takes the place of `worker`: what may go on does so there, and all else fails.
  void hand_over(Worker& worker, Worker& next, const Payload& error);
  /// `next` is started, and made ready by `setup` and what the residents say.
  void move_in(Worker& next, std::vector<Payload> setup, std::function<void()> ended, const Payload& error);
  Servers runners();

  const pid_t process_ = ::getpid();
  const std::string name_;
  const std::vector<InterpreterOptions> options_;
  const bool restarts_;
  mutable std::mutex keeping_mutex_;
  std::deque<Place> places_;
  Dispatcher dispatcher_;
  Dispatcher::MailboxId any_mailbox_ = 0;
  std::vector<Dispatcher::MailboxId> own_mailboxes_;
  std::shared_ptr<Supervisor> supervisor_;  // its thread holds it, too, until the last interpreter has ended
  std::string supervisor_failure_;
  std::vector<Payload> setup_;                                  // guarded by keeping_mutex_
  std::map<std::uint64_t, std::weak_ptr<Resident>> residents_;  // the same
  std::mutex placing_mutex_;
  std::vector<int> actor_counts_;  // guarded by placing_mutex_
  std::atomic<bool> closed_ = false;
  std::atomic<bool> interrupted_ = false;
  const std::shared_ptr<CompletionQueue> messages_;
  std::atomic<std::size_t> ended_ = 0;
};

}  // namespace multipy
