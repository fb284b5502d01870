// The contextvars of actors.
//
// Problem: the calls of an actor run on whichever thread of its interpreter is free, and a context is in force on a
// thread.
//
// Model: an interpreter has a context for all functions, and one for each actor, which begins as a copy of that. A
// thread enters the one of what it is about to run. A context can be in force on one thread at a time; where several
// calls of an actor run at once, the others have copies.
//
// Threads: those of workers, with the GIL.
#pragma once

#include <cstdint>

namespace multipy::bindings {

/// Nobody's number; 0 is that of functions.
inline constexpr std::int64_t kNobody = -1;

/// The context that is in force on this thread is that of functions from here on. Throws what Python raises.
void begin_contexts();
/// The context of `actor` is in force on this thread from here on, and what was there is not. False: Python has raised,
/// and none is.
bool enter_context_of(std::int64_t actor) noexcept;
/// Whether there is one, as it was entered once and not forgotten.
bool has_context(std::int64_t actor) noexcept;
/// `actor` has ended.
void forget_context(std::int64_t actor) noexcept;

}  // namespace multipy::bindings
