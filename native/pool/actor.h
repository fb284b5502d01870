// An object that lives in interpreters, as those who hold a handle of it see it.
//
// Problem: handles are held, copied and dropped in any interpreter, and calls go through them from any interpreter to
// any other without the host's Python. What they share therefore lives here.
//
// Model: an Actor owns a mailbox that the interpreters with a replica serve. It is an attachment, so that a handle
// travels like a tensor; each interpreter wraps it in a handle object of its own, with `description`, which only Python
// understands. When the last reference goes, the replicas are told `farewell` (an encoded request), after all calls
// posted before; kill() does so at once.
//
// Calls for one replica alone go through a further mailbox, which is opened when first needed.
//
// Where interpreters that end are replaced, it makes its replica anew in the new one as often as its options say; then
// that replica is gone, and with the last one the actor is *lost*.
//
// Two actors that hold handles of each other keep each other alive until their pool closes. In a forked child, where
// nobody serves mailboxes and any lock may be held for good, an actor goes without a word.
//
// Threads and locks: any thread. The table of names has a mutex, which is not held while the dispatcher is called or
// the last reference of an actor goes. An actor's own mutex guards what it has beside its mailbox, and is held while
// the dispatcher is called, but not while a call ends or is interrupted.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/export.h"
#include "pool/pool.h"
#include "task/call.h"
#include "task/payload.h"

namespace multipy {

struct ActorOptions {
  std::uint64_t number = 0;               // from next_number()
  std::vector<std::size_t> interpreters;  // that hold a replica, and count it already
  std::string label;                      // what it is called in messages
  std::string name;                       // under which others find it; empty: none
  std::string description;
  std::string farewell;
  std::size_t limit = 0;    // of calls waiting in its mailbox, or for one replica alone; 0: none
  int restarts = 0;         // how often each replica is made anew when its interpreter is replaced; negative: always
  std::size_t at_once = 1;  // so many calls of a replica run at once on threads
};

class MULTIPY_API Actor final : public Attachment, public Resident {
 public:
  /// Process-wide, from 1.
  static std::uint64_t next_number() noexcept;
  /// Throws ClosedError if the pool is closed, and Error if the name is taken. To be followed by make_replica() for
  /// each interpreter, and then announce().
  static std::shared_ptr<Actor> create(std::shared_ptr<Pool> pool, ActorOptions options);
  /// The actor of that name; null if there is none. Waits a moment if it has not been announced.
  static std::shared_ptr<Actor> find(const std::string& name);

  /// For create() alone.
  Actor(std::shared_ptr<Pool> pool, ActorOptions options, Dispatcher::MailboxId mailbox);
  ~Actor() override;

  std::uint64_t number() const noexcept { return options_.number; }
  const std::string& label() const noexcept { return options_.label; }
  const std::string& name() const noexcept { return options_.name; }
  const std::string& description() const noexcept { return options_.description; }
  const std::shared_ptr<Pool>& pool() const noexcept { return pool_; }
  const CallGroup& figures() const noexcept { return *group_; }
  /// Those that hold a replica.
  std::vector<std::size_t> interpreters() const { return pool_->dispatcher().servers(mailbox_); }
  std::size_t queued() const;
  /// It was killed or unloaded everywhere, or is lost, or its pool is closed.
  bool closed() const noexcept;
  /// Its interpreters have ended, and it was not made anew.
  bool lost() const noexcept { return lost_.load(std::memory_order_acquire); }

  /// Posts the call that makes the replica in `interpreter`.
  std::shared_ptr<Call> make_replica(std::size_t interpreter, Payload request);
  /// The replicas were made, or will be before any call comes: others may find it by its name.
  void announce() noexcept;

  /// A call of it, to be posted.
  std::shared_ptr<Call> make_call(Payload request) const { return std::make_shared<Call>(std::move(request), group_); }
  /// To the replica that is free first, or that in `on`; throws as Dispatcher::post, ClosedError also if there is none.
  /// Calls for one replica alone have a limit of their own, for each.
  void post(std::shared_ptr<Call> call, std::optional<std::size_t> on = std::nullopt, bool limited = true);
  WaitResult wait_for_room(std::optional<std::size_t> on, Deadline deadline) {
    return pool_->dispatcher().wait_for_room(mailbox_for(on), deadline, options_.label, number(), options_.at_once);
  }

  /// Ends it: calls that wait or go on aside fail with `error`, those that run, the making of replicas included, are
  /// interrupted. Where there is no memory for that it throws std::bad_alloc, and the actor goes on.
  void kill(const Payload& error);
  /// Drops the replica of `interpreter`, after the call that it runs; calls that wait for this one alone, or with the
  /// last one any, fail with `error`, and with the last one the actor ends. False if there is no replica. Throws as
  /// kill().
  bool unload(std::size_t interpreter, const Payload& error);
  std::shared_ptr<Call> move_in(std::size_t interpreter, const Payload& error) override;

 private:
  /// With mutex_ held: the replica is gone, and what waits for it alone, or for any and it was the last one, is moved
  /// to `calls`. True if it was the last one.
  bool leave(std::size_t interpreter, CallList& calls);
  Dispatcher::MailboxId mailbox_for(std::optional<std::size_t> on);
  void close_name() noexcept;
  void dismiss(std::size_t interpreter) noexcept;

  const std::shared_ptr<Pool> pool_;
  const ActorOptions options_;
  const Dispatcher::MailboxId mailbox_;
  const std::shared_ptr<CallGroup> group_;
  std::atomic<bool> closed_ = false;
  std::atomic<bool> lost_ = false;
  std::atomic<std::uint32_t> announced_ = 0;
  mutable std::mutex mutex_;
  std::map<std::size_t, Dispatcher::MailboxId> pinned_;  // for calls on one replica, by interpreter; guarded by mutex_
  std::map<std::size_t, std::weak_ptr<Call>> making_;    // the calls that make the replicas; guarded by mutex_
  Payload making_request_;                               // what they ask for, if it may be asked again; the same
  std::map<std::size_t, int> restarts_;                  // how often that was done, by interpreter; the same
};

}  // namespace multipy
