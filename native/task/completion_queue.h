// Where finished calls arrive that somebody watches by callback.
//
// Problem: a callback of a host future needs the host's GIL, and the worker that finishes the call must not
// wait for that. So it pushes the call here, and one host thread, the notifier, pops it and runs callbacks.
//
// Model: many producers, one consumer. The consumer takes everything there is in one go and then hands it out
// without the lock. A queue is held by shared_ptr: by its consumer and by each call that has a watch on it. A watch
// brings its place in the queue along, so that a call that has ended arrives though there is no memory left.
//
// Threads and locks: push(), wake() and close() from any thread, without any GIL; pop() from one thread only.
// The mutex guards `incoming_`, `woken_`, `closed_` and `asleep_`, and nothing is called out to while it is
// held. An idle consumer sleeps on `signal_`; a producer makes a system call only if the consumer sleeps.
//
// Guarantees: calls of one producer come out in its order; none is lost or doubled. After close() what is
// already in still comes out; what is pushed later is dropped, since nobody will come for it.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>

#include "base/export.h"
#include "base/futex.h"

namespace multipy {

class Call;

class MULTIPY_API CompletionQueue : public std::enable_shared_from_this<CompletionQueue> {
 public:
  CompletionQueue();
  ~CompletionQueue();
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;

  /// Of one call, or not filled yet.
  using Place = std::list<std::shared_ptr<Call>>;

  /// False if the queue is closed: the call was dropped.
  bool push(std::shared_ptr<Call> call);
  bool push(Place place) noexcept;
  /// The next call. Null after wake(), at the deadline, if a signal handler ran on this thread, and once the
  /// queue is closed and empty; closed() tells the last from the others.
  std::shared_ptr<Call> pop(Deadline deadline = std::nullopt);
  /// Makes one pop(), the one under way or the next, return null once the queue is empty.
  void wake();
  void close();
  bool closed() const;

 private:
  /// With the mutex held: whether the consumer sleeps and must be woken once the mutex is free.
  bool rouse() noexcept;

  mutable std::mutex mutex_;
  Place incoming_;
  bool woken_ = false;
  bool closed_ = false;
  bool asleep_ = false;
  std::atomic<std::uint32_t> signal_ = 0;

  // The consumer's own: what it took out and has not handed out yet.
  Place taken_;
};

}  // namespace multipy
