// In which sessions the code on a thread acts.
//
// Problem: a session holds an interpreter for itself, but the code that holds it also calls actors, which may live in
// that interpreter or call others that do. If such a call waited for the end of the session, it would wait for ever.
//
// Model: a chain of sessions goes with the code on a thread, and with each call that it posts to the thread that runs
// the call. A held interpreter takes the calls whose chain has its session. Chains are immutable and shared.
//
// Threads: each thread has a chain of its own; `ended` may be set by any.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace multipy {

struct Holding {
  Holding(std::uint64_t session_, std::shared_ptr<const Holding> outer_)
      : session(session_), outer(std::move(outer_)) {}
  const std::uint64_t session;
  const std::shared_ptr<const Holding> outer;
  mutable std::atomic<bool> ended = false;
};

using Holdings = std::shared_ptr<const Holding>;

/// The chain of the code on this thread, innermost first; null: it acts in no session.
Holdings current_holdings() noexcept;
/// From here on this thread's code acts in `holdings`.
void set_current_holdings(Holdings holdings) noexcept;

}  // namespace multipy
