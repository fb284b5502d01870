// What an interpreter's Python asks the system for: arenas of small objects, and pieces of the stack of its frames.
//
// Python maps a piece of 16 KiB when a call no longer fits the pieces it has, and unmaps it when that call returns. A
// loop that calls just there does so each time around: `import torch` a thousand times. In a process of its own that is
// cheap, but all interpreters share one address space, and each map or unmap keeps every other thread from mapping,
// and from touching new memory, meanwhile. So a few small pieces are kept when Python lets go of them. Arenas, which
// are large and seldom freed, come and go as Python has it.
#pragma once

namespace multipy::bindings {

/// Before Python is initialised.
void keep_pieces_of_stack();

/// Gives back what is kept; after Python was finalised.
void release_pieces_of_stack();

}  // namespace multipy::bindings
