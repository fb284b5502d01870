// Releases on their way home to the interpreter that made what is released.
//
// Problem: the last user of a shared tensor may let go of it on any thread, but the exporter's deleter may need
// the exporter's Python (NumPy's does), which only its own thread can enter without risking a deadlock: whoever
// releases may hold another interpreter's GIL.
//
// Model: one queue per interpreter, held by shared_ptr: by the interpreter and by every tensor it exported, so
// a tensor can come home long after the interpreter has gone. A release is a function and its argument; it has a place
// in the queue from the beginning, so that it comes home though there is no memory left.
//
// Threads and locks: post() from any thread; set_wake(), drain() and close() on the owner's, drain() on several of them
// at once if need be. `mutex_` guards the releases and is never held while one runs, so each may post again.
// `wake_mutex_` guards the callback and is held while that runs, so that its owner can take it away for good; it is
// taken after `mutex_` is let go, and recursive because a callback may drain, and what it drains may post.
//
// Guarantees: each release runs exactly once: on the owner's thread while the queue is open, on the posting
// thread afterwards. A thread that drains takes one release at a time, so none lies with another that has not come to
// it yet: owners that drain under their GIL find everything released that was posted before. The wake callback is
// called when a release arrives in an empty queue that is not being drained just then; once set_wake() or close() has
// returned, the previous callback neither runs nor will.
//
// Putting off: who lets go of a call's arguments is about to tell its caller the outcome, and the caller drains
// when it reads that. To wake another thread of the caller's for that in between would cost the call more than all
// the rest of it. So a worker puts the callbacks off when a call's own code has returned, until it begins another call
// or has nothing to do; then those are called whose queues have not been drained.
//
// Shutdown: the owner drains, finalises its Python, and closes last. What is posted in between is run by
// close(), on the owner's thread: a deleter that asks Py_IsInitialized, as NumPy's does, then gives up its
// object instead of entering a Python that is half gone.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>

#include "base/export.h"

namespace multipy {

class MULTIPY_API ReturnQueue : public std::enable_shared_from_this<ReturnQueue> {
 public:
  using Release = void (*)(void*);
  struct Pending {
    Release release;
    void* argument;
  };
  /// Of one release.
  using Place = std::list<Pending>;

  ReturnQueue();
  /// Runs what is pending: the last holder stands in for an owner that never closed.
  ~ReturnQueue();
  ReturnQueue(const ReturnQueue&) = delete;
  ReturnQueue& operator=(const ReturnQueue&) = delete;

  /// How to get the owner's attention. Called at once if releases are pending already. Not from the callback.
  void set_wake(std::function<void()> wake);
  void post(Place place) noexcept;
  void post(Release release, void* argument) { post(Place{{release, argument}}); }
  /// Runs all pending releases, those they post included; returns how many.
  std::size_t drain();
  /// Runs all pending releases; from now on post() runs them itself. Idempotent.
  void close();

  /// Has a forked child find the queue free and whole. It lives for ever.
  void guard_across_forks();

  /// From here on, what this thread posts calls nobody until call_owners().
  static void put_off_calls() noexcept;
  /// Puts nothing off any more, and calls the owners who still have something to release.
  static void call_owners();

 private:
  void call_owner();
  /// False: nobody does so.
  bool put_off_call() noexcept;

  std::atomic<bool> has_pending_ = false;  // so that an empty queue costs no lock
  std::mutex mutex_;
  Place pending_;
  bool draining_ = false;
  bool closed_ = false;

  std::recursive_mutex wake_mutex_;
  std::function<void()> wake_;
};

}  // namespace multipy
