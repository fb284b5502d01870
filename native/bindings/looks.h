// Looks: what the threads of this interpreter do, told to who asks from outside.
//
// Model: a thread of the interpreter, started for that, takes the GIL and asks multipy_actors/worker/serve.py. Whoever
// asks does not wait for the GIL, which code may keep for ever.
//
// Threads: multipy_interpreter_look may be called on any, without a GIL.
#pragma once

namespace multipy::bindings {

/// Before Python is finalised, with the GIL: waits until no thread of this file is left.
void wait_for_looks();

}  // namespace multipy::bindings
