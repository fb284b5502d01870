// In which sessions the code on a thread acts.
//
// Problem: a session holds an interpreter for itself, but the code that holds it also calls actors, which may live in
// that interpreter or call others that do. If such a call waited for the end of the session, it would wait for ever.
//
// Model: a chain of sessions goes with the code on a thread, and with each call that it posts to the thread that runs
// the call. A held interpreter takes the calls whose chain has its session. Chains are immutable and shared.
//
// Ownership: a link belongs to its session, to the threads that act in it and to their calls. One that outlives its
// session is in nobody's way: the numbers of sessions are never used again.
//
// Threads: each thread has a chain of its own; `ended` may be set by any.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/export.h"

namespace multipy {

struct Holding {
  std::uint64_t session = 0;
  std::shared_ptr<const std::atomic<bool>> ended;  // the session's to set
  std::shared_ptr<const Holding> outer;
};

using Holdings = std::shared_ptr<const Holding>;

/// A number for a session, process-wide, from 1.
MULTIPY_API std::uint64_t new_session() noexcept;

/// `chain` without the sessions that have ended. Who begins a session in another before that one ends, and so on, would
/// else make it longer each time.
MULTIPY_API Holdings without_ended(const Holdings& chain);

/// The chain of the code on this thread, innermost first; null: it acts in no session.
Holdings current_holdings() noexcept;
/// From here on this thread's code acts in `holdings`.
void set_current_holdings(Holdings holdings) noexcept;

}  // namespace multipy
