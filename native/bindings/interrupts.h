// Interrupts: how Interrupted is raised in code that runs in this interpreter, and in no other than was meant.
//
// Problem: a call that somebody wants to end runs somewhere in Python code of its worker thread or event loop, or in C,
// or sleeps in a wait of ours. The exception must come at the next bytecode, must not come once the call is over, and
// must not leave behind what only works if it is done as a whole: a module that is half imported, a lock that nobody
// lets go of, a callback that asyncio has taken out and not run.
//
// Model: what runs on the thread of a worker does so in numbered turns (pool/pool.h:Worker). An interrupt names a turn,
// which is then *due* at the *place* of that thread; at the end of the interpreter that is no turn (MULTIPY_NO_TURN),
// in which its finalisers run. A thread of the interpreter, started for that, takes the GIL; with it, nothing moves, so
// it can look at the turn and at the frames of the worker's thread, and have Python raise the exception there, in the
// very frame that it has seen. It comes again a little later if one of the frames imports or is held, for five minutes
// at most; that may be a server, which is imported and never ends. Whoever wakes in a wait raises what is due by
// itself.
//
// On the event loop it is the context of the thread that tells for which job it runs
// (multipy_actors/worker/event_loop.py), and the loop's watcher who looks.
//
// Threads and locks: all but multipy_interpreter_interrupt and what expects threads is called with the GIL. A mutex
// guards the places and what is due, and is never held while waiting for the GIL. Nothing between a look at a thread
// and the raising runs Python code, for which the collector is off meanwhile: it would let go of the GIL.
//
// Guarantees: an interrupt is raised once, in its turn or job; after end_turn() nothing of the turn is left to be
// raised, nor what other code of the interpreter may have had Python raise in it (as time-out libraries do).
//
// Rejected: Py_AddPendingCall. There is room for 32 in all, they run on the main thread only, and what they raise may
// come in the middle of anything.
#pragma once

#include <Python.h>

#include "bindings/worker.h"

namespace multipy::bindings {

/// A thread of a worker is about to be started, which will call note_thread(). Throws std::bad_alloc if there is no
/// memory for that.
void expect_thread();
/// It could not be started.
void expect_no_thread() noexcept;
/// This thread is that of `worker`; the first one is Python's main thread. Once Python is up.
void note_thread(const Worker& worker) noexcept;
/// It runs no calls any more.
void forget_thread() noexcept;
/// This thread is that of the event loop.
void note_event_loop() noexcept;
/// Interrupts wait while `code` runs on the thread that they are for.
void hold_interrupts_in(PyCodeObject* code);
/// The turn is over, on the thread of a worker; or the end of the interpreter, before Python is finalised.
void end_turn() noexcept;
/// Raises what is due on this thread, which wakes in a wait; false if nothing is.
bool raise_due();
/// What was raised in this turn was dropped on its way: it is due again.
void raise_again() noexcept;
/// Raises Interrupted on the event loop's thread if it runs code whose context has `job` as `variable`. Its frame must
/// not be that of `machinery`, a tuple of code objects; with `held` nothing that holds interrupts may be among its
/// frames.
bool interrupt_job(PyObject* variable, PyObject* job, PyObject* machinery, bool held);
/// Before Python is finalised: waits until no thread of this file is left.
void wait_for_threads_of_interrupts();

}  // namespace multipy::bindings
