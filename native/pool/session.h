// One interpreter held for the use of one caller.
//
// Problem: who works with objects inside an interpreter step by step wants it for itself meanwhile, as a lock is
// held; but whatever that work calls, directly or through other actors, must get through.
//
// Model: a request for an interpreter queues like a call, first come first served. Whoever of the interpreters takes it
// is held from then on: the dispatcher hands it only calls that act in the session (task/holding.h), which are those
// that the thread that asked for it posts, and what these post in turn. Sessions nest: if the thread acts in one
// already and nobody else is idle, it gets the interpreter that it holds once more, rather than wait for others that
// may wait for it.
//
// Threads: any. The thread that calls request() is the one whose calls are let through; post() lets through its calls
// from any thread. A destroyed Session has ended. The end of the pool ends all holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/export.h"
#include "pool/pool.h"
#include "task/call.h"
#include "task/holding.h"

namespace multipy {

class MULTIPY_API Session final : public std::enable_shared_from_this<Session> {
 public:
  /// Asks for `interpreter`, or for the one that is free first. Throws ClosedError if the pool is closed.
  static std::shared_ptr<Session> request(std::shared_ptr<Pool> pool,
                                          std::optional<std::size_t> interpreter = std::nullopt);
  /// For request() alone.
  explicit Session(std::shared_ptr<Pool> pool);
  ~Session();

  /// Process-wide, from 1.
  std::uint64_t id() const noexcept { return holding_->session; }
  /// Succeeds when an interpreter is held, with its index as MessagePack; fails if the pool closes before.
  const std::shared_ptr<Call>& granted() const noexcept { return granted_; }
  /// Valid once granted.
  std::size_t interpreter() const noexcept { return static_cast<std::size_t>(granted_->worker()); }
  const std::shared_ptr<Pool>& pool() const noexcept { return pool_; }

  /// Has its interpreter run a call. Throws ClosedError if the session, its interpreter or the pool has ended.
  std::shared_ptr<Call> post(Payload request);
  /// Lets go of the interpreter, or of the wish for one. What was posted still runs.
  void end() noexcept;
  bool ended() const noexcept { return ended_->load(std::memory_order_acquire); }

 private:
  const std::shared_ptr<Pool> pool_;  // kept, so that its interpreters can be let go of at any time
  const std::shared_ptr<std::atomic<bool>> ended_;
  const Holdings holding_;
  const std::shared_ptr<Call> granted_;
};

}  // namespace multipy
