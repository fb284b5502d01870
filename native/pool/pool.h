// The interpreters of one pool, and the dispatcher that feeds them.
//
// A Pool owns the dispatcher, one return queue per interpreter and the interpreters. Interpreter threads hold a
// reference to the pool for as long as they run, so a pool may be dropped at any time: nothing dangles, and what an
// abandoned interpreter still does meets a closed dispatcher.
//
// Life: construct (any thread) → start → wait_started → post calls through dispatcher() → close → join. Calls that
// nobody can serve any more (an interpreter failed or ended) are abandoned: they fail with an empty error payload.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/export.h"
#include "exchange/return_queue.h"
#include "interpreter/interpreter.h"
#include "pool/dispatcher.h"

namespace multipy {

class Pool;

/// What an interpreter's own code knows of its place; handed to its extension module as an opaque pointer.
struct Worker {
  Pool* pool = nullptr;
  std::size_t index = 0;
  std::shared_ptr<ReturnQueue> returns;  // releases of what this interpreter exported
  std::atomic<void*> running = nullptr;  // the call whose user code runs now
};

class MULTIPY_API Pool : public std::enable_shared_from_this<Pool> {
 public:
  /// One interpreter per entry of `interpreters`.
  explicit Pool(const std::vector<InterpreterOptions>& interpreters);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  std::size_t size() const noexcept { return interpreters_.size(); }
  Dispatcher& dispatcher() noexcept { return dispatcher_; }
  Interpreter& interpreter(std::size_t index) const { return *interpreters_.at(index); }

  /// Boots all interpreters in parallel.
  void start();
  /// Waits for all; throws StartError with the first failure.
  WaitResult wait_started(Deadline deadline);
  /// Raises Interrupted in whatever calls run now.
  void interrupt_running();
  /// No more calls; what is queued still runs.
  void close();
  /// Waits for all threads to leave Python.
  WaitResult join(Deadline deadline);

 private:
  void ended(std::size_t index);

  Dispatcher dispatcher_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::shared_ptr<Interpreter>> interpreters_;
};

}  // namespace multipy
