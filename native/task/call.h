// One request to an interpreter and its outcome: what a future waits for.
//
// Problem: caller and worker live in different Pythons. The outcome has to be published so that the caller
// finds it without either GIL, may give up waiting at any time, and sees a worker's death as an outcome too.
//
// Model: the caller creates the Call, a Dispatcher queues it, one worker starts and finishes it. All of them
// hold it by shared_ptr. One 32-bit word carries its state, and it is the word that waiters sleep on:
//
//     pending ──start──▶ running ──succeed / fail──▶ succeeded / failed
//        ├──────cancel──▶ cancelled     └──abandon──▶ failed
//        └─────abandon──▶ failed
//
// A call that may be tried again goes back from running to pending when its interpreter ends: take_back().
//
// expire() is abandon() with an interrupt of the code that runs, and remembers that it was time that ended the call.
//
// Beside the state the word has four flags: `claimed` (a finisher won and is storing its outcome; everybody
// else has lost already), `awaited` (somebody may sleep: finishing must wake), `watched` (there are
// completion queues to tell) and `queued` (it lies in a mailbox: who ends it counts it out there). Without the last
// three, finishing costs no system call and takes no lock. A fifth one has no meaning: disturb_waiters() turns it over,
// so that nobody falls asleep on the word as it was.
//
// Threads: every member may be called from any thread and needs no GIL, except that
//   - request() belongs to the creator until the call is posted, and take_request() to the worker whose
//     start() returned true;
//   - whoever calls a member holds a reference: the word is touched after the outcome is visible.
// The mutex guards `watchers_` and `interrupts_`, and the request of a call that may be tried again; it is never held
// while a queue is called.
// Whose runner waits is in the graph of waits (waits.h) meanwhile.
//
// Guarantees: states move only forward, but for take_back(); exactly one of succeed, fail, abandon and cancel returns
// true; the outcome is stored before the state that announces it; each watch() reports exactly once. A request's
// attachments are dropped when the worker takes them, or when the call ends without having run. In a forked child,
// which has none of the threads that would end it, a call that had not ended has failed, without an error, and takes no
// lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/export.h"
#include "base/futex.h"
#include "task/completion_queue.h"
#include "task/holding.h"
#include "task/payload.h"
#include "task/runner.h"

namespace multipy {

enum class CallState : std::uint32_t { pending, running, succeeded, failed, cancelled };

/// What all calls of one actor share: how they are called in messages, and how many have ended.
struct CallGroup {
  explicit CallGroup(std::string name, std::uint64_t number = 0, std::size_t concurrency = 1)
      : label(std::move(name)), actor(number), at_once(concurrency) {}
  const std::string label;
  const std::uint64_t actor;  // its number; 0: it is none's
  const std::size_t at_once;  // so many calls of one replica may run at once on threads
  std::atomic<std::uint64_t> done = 0;
  std::atomic<std::uint64_t> failed = 0;
  std::atomic<bool> ended = false;  // its actor was killed: no call of it is to run any more
};

/// What a mailbox and the calls that were posted to it share: who waits for room there, and how many calls wait beside
/// those it has.
struct MULTIPY_API Backlog {
  std::atomic<std::uint32_t> room = 0;     // the futex word: changes when there may be room
  std::atomic<std::uint32_t> waiters = 0;  // that sleep on it
  std::atomic<std::int64_t> ended = 0;     // calls that have ended while they were queued, and are still in their place
  std::atomic<std::int64_t> aside = 0;     // calls that were taken, to go on aside, and have not begun
  std::atomic<std::size_t> turns = 0;      // how many of them may have begun at once, if any had to wait for that,
  std::atomic<const CallGroup*> group = nullptr;  // and whose calls they are
  /// One of those who wait looks around.
  void tell_of_room() noexcept;
};

class MULTIPY_API Call : public Attachment {
 public:
  static constexpr std::int64_t no_worker = -1;

  explicit Call(Payload request, std::shared_ptr<CallGroup> group = nullptr);
  ~Call() override;
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // For the creator, until the call is posted.
  Payload& request() noexcept { return request_; }

  // For the worker.
  /// pending → running; false if the call has ended already, and then it must not run.
  bool start() noexcept;
  /// Moves the request out, or copies that of a call that may be tried again. Only after start() returned true, and
  /// once for each time.
  Payload take_request();
  /// running → succeeded; false if the call was abandoned meanwhile (`result` is dropped).
  bool succeed(Payload result) noexcept;
  /// running → failed; `error` is the encoded exception. False if the call was abandoned meanwhile.
  bool fail(Payload error) noexcept;
  /// It goes on beside other calls of its runner, which therefore may wait for it; interrupts go to `queue`. On the
  /// thread of the runner that took it.
  void run_aside(std::shared_ptr<CompletionQueue> queue);
  bool runs_aside() const noexcept { return runs_aside_.load(); }
  /// Nothing goes on aside for it any more.
  void end_aside() noexcept;
  /// It goes on aside, but has to wait until one of the `turns` calls that its actor may run at once has ended.
  void wait_for_turn(std::size_t turns);
  /// It has begun to run aside, and does not count as waiting any more.
  void begin_aside() noexcept;
  std::size_t turns() const noexcept { return turns_.load(); }
  /// Pushes it to the queue it gave to run_aside(); false if nothing goes on for it any more.
  bool push_to_interrupts() noexcept;
  /// Somebody wants the code that runs to end.
  bool interrupted() const noexcept { return interrupted_.load() || killed(); }
  /// The number of the actor that it makes a replica of; 0: it makes none. Set before anybody else knows of the call.
  std::uint64_t makes() const noexcept { return makes_; }
  void set_makes(std::uint64_t actor) noexcept { makes_ = actor_ = actor; }
  /// The number of the actor whose replica it makes, calls or drops; 0: none's. Set as the one before.
  std::uint64_t actor() const noexcept { return actor_; }
  void set_actor(std::uint64_t actor) noexcept { actor_ = actor; }
  /// So many calls of its actor may run at once in an interpreter, if this is one of them.
  std::size_t at_once() const noexcept { return group_ == nullptr ? 1 : group_->at_once; }
  /// Its actor has ended, and it should not run.
  bool killed() const noexcept { return group_ != nullptr && group_->ended.load(); }

  // For the caller.
  /// pending → cancelled; false if the call runs or has ended.
  bool cancel() noexcept;
  /// Asks the code that runs to end; false if none does. A call that runs as one with others ends itself instead, and
  /// the code is asked when that is wanted of all of them.
  bool interrupt() noexcept;
  /// Ends a call that takes too long: pending or running → failed, without an error, and interrupted. False if no code
  /// runs for it.
  bool expire() noexcept;
  /// Nobody wants to know how it ends: the end of its interpreter does not wait for it.
  void expect_nobody() noexcept { is_owed_.store(false, std::memory_order_relaxed); }
  /// Whether somebody may still wait for its outcome, and it has not been told to end by a kill.
  bool owed() const noexcept { return is_owed_.load(std::memory_order_relaxed) && !done() && !killed(); }
  /// Whether it was expire() that ended it.
  bool expired() const noexcept { return expired_.load(std::memory_order_acquire); }
  CallState state() const noexcept;
  /// Whether the state is final.
  bool done() const noexcept { return state() >= CallState::succeeded; }
  /// Sleeps until the call is done (`woken`), `deadline` passes, or a signal handler ran on this thread
  /// or this thread's runner was interrupted (`interrupted`; it is for the caller to look at its signals and wait
  /// again). Throws DeadlockError if this thread's runner would wait for ever.
  WaitResult wait(Deadline deadline = std::nullopt);
  /// The value or the encoded exception, by state(); empty if cancelled. Valid once done().
  const Payload& result() const noexcept { return result_; }
  /// Pushes this call to `queue` once, as soon as it is done; at once if it is.
  void watch(std::shared_ptr<CompletionQueue> queue);
  /// Takes back one watch(), if it has not been served.
  void unwatch(const CompletionQueue& queue);

  /// Names the call for good, in this process.
  std::uint64_t number() noexcept;

  // For the pool.
  /// pending or running → failed with `error`: its interpreter died or closed. False if it has ended already.
  bool abandon(Payload error) noexcept;
  /// The same with a copy of it, or with an error that says nothing where there is no memory for that.
  bool abandon_with(const Payload& error) noexcept;
  /// How often it may be tried again if its interpreter ends; negative: any number of times. Before anybody else knows
  /// of the call.
  void set_retries(int retries) noexcept {
    retries_.store(retries, std::memory_order_relaxed);
    keeps_request_ = retries != 0;
  }
  bool may_be_retried() const noexcept { return retries_.load(std::memory_order_relaxed) != 0; }
  /// However often it was.
  bool may_always_be_retried() const noexcept { return retries_.load(std::memory_order_relaxed) < 0; }
  /// running → pending, with its request: its interpreter has ended, and it is to be tried again. False if it is not to
  /// be. True also if it is pending still.
  bool take_back() noexcept;
  /// Index of the interpreter the call was handed to, or `no_worker`.
  std::int64_t worker() const noexcept { return worker_.load(std::memory_order_relaxed); }
  /// The CPU on which an idle worker is about to take the call; -1: none is. A hint for wait().
  void expect_on(int cpu) noexcept { expected_cpu_.store(cpu, std::memory_order_relaxed); }
  void set_worker(std::int64_t interpreter, RunnerId runner) noexcept {
    worker_.store(interpreter, std::memory_order_relaxed);
    runner_.store(runner, std::memory_order_release);
  }
  /// Who took it; 0: nobody yet.
  RunnerId runner() const noexcept { return runner_.load(std::memory_order_acquire); }
  /// Where it was posted, and who may take it there. Before anybody else knows of the call.
  void set_mailbox(std::uint64_t mailbox, std::shared_ptr<const Servers> servers) {
    mailbox_ = mailbox;
    servers_ = std::move(servers);
  }
  /// It is in that mailbox from here on; if it has ended already it does not count there.
  void enter_queue(std::shared_ptr<Backlog> backlog) noexcept;
  /// It is not any more. True if it has ended.
  bool leave_queue() noexcept;
  std::uint64_t mailbox() const noexcept { return mailbox_; }
  const std::shared_ptr<const Servers>& servers() const noexcept { return servers_; }
  /// Calls with the same text may run together, as one. Before anybody else knows of the call.
  void set_batch(std::string batch) { batch_ = std::move(batch); }
  const std::string& batch() const noexcept { return batch_; }
  /// The sessions that it acts in. Before anybody else knows of the call.
  void set_holdings(Holdings holdings) { holdings_ = std::move(holdings); }
  const Holdings& holdings() const noexcept { return holdings_; }
  const std::shared_ptr<CallGroup>& group() const noexcept { return group_; }
  /// Whose call it is, for messages; may be empty.
  std::string label() const { return group_ == nullptr ? std::string() : group_->label; }
  /// Has those who sleep in wait() look around.
  void disturb_waiters() noexcept;

 private:
  friend class CallList;

  /// It was made by a process that this one was forked from, and did not live to see its end.
  bool is_lost() const noexcept;
  /// Becomes the only one who may finish the call, from a state not below `lowest`; `before` is that state.
  bool claim(CallState lowest, CallState& before) noexcept;
  void publish(CallState outcome) noexcept;
  void drop_request() noexcept;
  /// Wakes and tells whoever the flags of `word`, the last one before the outcome, speak of.
  void announce(std::uint32_t word) noexcept;

  std::atomic<std::uint32_t> word_;
  const std::uint32_t forks_;  // how often the process had been forked into when it was made
  std::atomic<std::int64_t> worker_ = no_worker;
  std::atomic<RunnerId> runner_ = 0;
  std::atomic<int> expected_cpu_ = -1;
  std::atomic<bool> runs_aside_ = false;
  std::atomic<std::size_t> turns_ = 0;
  std::atomic<bool> counts_aside_ = false;
  std::atomic<bool> interrupted_ = false;
  std::atomic<bool> expired_ = false;
  std::atomic<bool> is_owed_ = true;
  std::atomic<int> retries_ = 0;
  bool keeps_request_ = false;             // until it ends
  std::atomic<std::uint64_t> number_ = 0;  // 0: nobody has asked for it
  std::uint64_t mailbox_ = 0;
  std::uint64_t makes_ = 0;
  std::uint64_t actor_ = 0;
  std::string batch_;
  std::shared_ptr<const Servers> servers_;
  Holdings holdings_;
  std::shared_ptr<Backlog> backlog_;
  std::shared_ptr<Call> next_in_list_;  // for that list alone
  const std::shared_ptr<CallGroup> group_;
  Payload request_;
  Payload result_;
  struct Watcher {
    std::shared_ptr<CompletionQueue> queue;
    CompletionQueue::Place place;
  };
  std::mutex watch_mutex_;
  std::vector<Watcher> watchers_;
  std::shared_ptr<CompletionQueue> interrupts_;  // as watchers_
  CompletionQueue::Place place_of_interrupt_;    // the same; for the one for which there is no memory
};

/// Sleeps until `needed` of `calls`, which are all different, are done, or with `until_failure` until one of
/// them has failed; else as Call::wait.
MULTIPY_API WaitResult wait_for_some(const std::vector<std::shared_ptr<Call>>& calls, std::size_t needed,
                                     Deadline deadline = std::nullopt, bool until_failure = false);

}  // namespace multipy
