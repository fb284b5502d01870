// The interpreters of one pool, and the dispatcher that feeds them.
//
// A Pool owns the dispatcher, one return queue per interpreter and the interpreters. Interpreter threads hold a
// reference to the pool for as long as they run, so a pool may be dropped at any time: nothing dangles, and what an
// abandoned interpreter still does meets a closed dispatcher.
//
// Life: construct (any thread) → start → wait_started → post calls through dispatcher() → close → join. Calls that
// nobody can serve any more (an interpreter failed or ended) are abandoned: they fail with an empty error payload.
#pragma once

#include <unistd.h>

#include <atomic>
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

/// What an interpreter's own code knows of its place; handed to its extension module as an opaque pointer.
///
/// What can be interrupted on the worker thread happens in turns: from begin() to end() it runs for one call, or for
/// several as one. Turns have numbers, as calls' addresses are used again.
///
/// Threads: begin() and end() on the worker thread, all else on any. Whoever looks at what runs is counted meanwhile,
/// and end() waits for that, so that no call goes away under them.
struct MULTIPY_API Worker final : Runner {
  using Calls = std::vector<std::shared_ptr<Call>>;

  Worker(Pool& pool, std::size_t index, std::string name);
  ~Worker() override;

  Pool& pool;
  const std::size_t index;
  const std::shared_ptr<ReturnQueue> returns;  // releases of what this interpreter exported
  // The worker thread's own: what was delivered to it last. The worker loop may fail anywhere, and then this is what
  // tells of the calls that it has not ended.
  Calls in_hand;
  std::uint64_t deliveries = 0;
  int redeliveries = 0;  // of what is in hand

  /// User code of `call` runs from here on. False: it is not to, as an interrupt has come already.
  bool begin(Call& call);
  /// The same of `calls`, one or more, as one. False if none of them is to run.
  bool begin(Calls calls);
  void end() noexcept;
  /// The number of the turn under way; 0: there is none.
  std::uint64_t turn() const noexcept { return running_.load() == nullptr ? 0 : turns_.load(); }
  /// The call whose turn it is, on the worker thread; null: none's.
  Call* running() const noexcept { return running_.load(); }
  /// The calls of `group` whose turn it is.
  Calls running_of(const CallGroup& group) const;

 protected:
  Reached interrupt_running(const Call* call, const CallGroup* group) override;

 private:
  class Look;

  std::atomic<std::uint64_t> turns_ = 0;
  std::atomic<Call*> running_ = nullptr;  // or the first of batch_
  Calls batch_;                           // unchanged while running_ is set
  mutable std::atomic<std::uint32_t> looking_ = 0;
};

class MULTIPY_API Pool : public std::enable_shared_from_this<Pool> {
 public:
  /// One interpreter per entry of `interpreters`.
  explicit Pool(const std::vector<InterpreterOptions>& interpreters, std::string name = {});
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  std::size_t size() const noexcept { return interpreters_.size(); }
  Dispatcher& dispatcher() noexcept { return dispatcher_; }
  Interpreter& interpreter(std::size_t index) const { return *interpreters_.at(index); }
  const Worker& worker(std::size_t index) const { return *workers_.at(index); }
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
  void interrupt_running();
  bool interrupted() const noexcept { return interrupted_.load(); }
  /// No more calls; what is queued still runs.
  void close();
  /// Waits for all threads to leave Python.
  WaitResult join(Deadline deadline);

 private:
  /// What calls fail with that an interpreter which has ended will not run.
  Payload end_of(std::size_t index) const;
  void ended(std::size_t index);

  const pid_t process_ = ::getpid();
  const std::string name_;
  std::vector<std::unique_ptr<Worker>> workers_;
  Dispatcher dispatcher_;
  Dispatcher::MailboxId any_mailbox_ = 0;
  std::vector<Dispatcher::MailboxId> own_mailboxes_;
  std::vector<std::shared_ptr<Interpreter>> interpreters_;
  std::mutex placing_mutex_;
  std::vector<int> actor_counts_;  // guarded by placing_mutex_
  std::atomic<bool> closed_ = false;
  std::atomic<bool> interrupted_ = false;
  const std::shared_ptr<CompletionQueue> messages_;
  std::atomic<std::size_t> ended_ = 0;
};

}  // namespace multipy
