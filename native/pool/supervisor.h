// The thread that starts the interpreters that take the places of those that have ended.
//
// Problem: a thread takes over much from the one that starts it: signals that are blocked, the working directory, the
// CPUs it may run on, time slices. The threads of interpreters have their own of these; their successors should get the
// host's, as they did.
//
// Model: a pool that restarts interpreters has one supervisor, whose thread is started where those of its interpreters
// are. It starts whatever it is told to, one after the other, and goes away when it is told that nothing will come.
//
// Threads and locks: start() and end() from any thread; one mutex, which is not held while an interpreter is started.
#pragma once

#include <signal.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "interpreter/interpreter.h"

namespace multipy {

class Supervisor {
 public:
  /// Starts its thread; throws std::system_error if there can be none. `signals` are those the host has blocked.
  static std::shared_ptr<Supervisor> create(const sigset_t& signals);

  /// For create() alone.
  explicit Supervisor(const sigset_t& signals) : signals_(signals) {}

  /// Has its thread start `interpreter`, see there.
  void start(std::shared_ptr<Interpreter> interpreter, void* worker, std::function<void()> ended);
  /// What it was told before is done, and then its thread ends.
  void end();

 private:
  struct Order {
    std::shared_ptr<Interpreter> interpreter;
    void* worker;
    std::function<void()> ended;
  };

  void run();

  const sigset_t signals_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Order> orders_;  // guarded by mutex_
  bool over_ = false;         // the same
};

}  // namespace multipy
