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
// Beside the state the word has three flags: `claimed` (a finisher won and is storing its outcome; everybody
// else has lost already), `awaited` (somebody may sleep: finishing must wake) and `watched` (there are
// completion queues to tell). Without the last two, finishing costs no system call and takes no lock.
//
// Threads: every member may be called from any thread and needs no GIL, except that
//   - request() belongs to the creator until the call is posted, and take_request() to the worker whose
//     start() returned true;
//   - whoever calls a member holds a reference: the word is touched after the outcome is visible.
// The mutex guards `watchers_` alone and is never held while a queue is called.
//
// Guarantees: states move only forward; exactly one of succeed, fail, abandon and cancel returns true; the
// outcome is stored before the state that announces it; each watch() reports exactly once. A request's
// attachments are dropped when the worker takes them, or when the call ends without having run.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/export.h"
#include "base/futex.h"
#include "task/payload.h"

namespace multipy {

class CompletionQueue;

enum class CallState : std::uint32_t { pending, running, succeeded, failed, cancelled };

class MULTIPY_API Call : public std::enable_shared_from_this<Call> {
 public:
  static constexpr std::int64_t no_worker = -1;

  explicit Call(Payload request);
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // For the creator, until the call is posted.
  Payload& request() noexcept { return request_; }

  // For the worker.
  /// pending → running; false if the call has ended already, and then it must not run.
  bool start() noexcept;
  /// Moves the request out. Only after start() returned true, and once.
  Payload take_request() noexcept;
  /// running → succeeded; false if the call was abandoned meanwhile (`result` is dropped).
  bool succeed(Payload result);
  /// running → failed; `error` is the encoded exception. False if the call was abandoned meanwhile.
  bool fail(Payload error);

  // For the caller.
  /// pending → cancelled; false if the call runs or has ended.
  bool cancel();
  CallState state() const noexcept;
  /// Whether the state is final.
  bool done() const noexcept { return state() >= CallState::succeeded; }
  /// Sleeps until the call is done (`woken`), `deadline` passes, or a signal handler ran on this thread
  /// (`interrupted`; it is for the caller to look at its signals and wait again).
  WaitResult wait(Deadline deadline = std::nullopt);
  /// The value or the encoded exception, by state(); empty if cancelled. Valid once done().
  const Payload& result() const noexcept { return result_; }
  /// Pushes this call to `queue` once, as soon as it is done; at once if it is.
  void watch(std::shared_ptr<CompletionQueue> queue);

  // For the pool.
  /// pending or running → failed with `error`: its interpreter died or closed. False if it has ended already.
  bool abandon(Payload error);
  /// Index of the interpreter the call was handed to, or `no_worker`.
  std::int64_t worker() const noexcept { return worker_.load(std::memory_order_relaxed); }
  /// The CPU on which an idle worker is about to take the call; -1: none is. A hint for wait().
  void expect_on(int cpu) noexcept { expected_cpu_.store(cpu, std::memory_order_relaxed); }
  void set_worker(std::int64_t interpreter) noexcept { worker_.store(interpreter, std::memory_order_relaxed); }

 private:
  /// Becomes the only one who may finish the call, from a state not below `lowest`; `before` is that state.
  bool claim(CallState lowest, CallState& before) noexcept;
  void publish(CallState outcome);
  /// Wakes and tells whoever the flags of `word`, the last one before the outcome, speak of.
  void announce(std::uint32_t word);

  std::atomic<std::uint32_t> word_;
  std::atomic<std::int64_t> worker_ = no_worker;
  std::atomic<int> expected_cpu_ = -1;
  Payload request_;
  Payload result_;
  std::mutex watch_mutex_;
  std::vector<std::shared_ptr<CompletionQueue>> watchers_;
};

}  // namespace multipy
