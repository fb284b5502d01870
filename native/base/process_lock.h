// Locks of things that the process has one of, which a forked child finds free.
//
// Problem: a child has one thread, and a lock that another thread of its parent held stays held in it for good. What it
// guards may be half changed, too.
//
// Model: a ProcessLock is a mutex that a fork takes before and lets go of after, on both sides, so that the child finds
// it free and what it guards whole. A fork takes all of them in the order of ForkOrder; so a thread that takes one
// while it holds another must take them in that order as well.
//
// Locks of single objects (a call, a mailbox, a namespace) are not among them: a child has no use for its parent's
// pools, and what it still lets go of asks before whether it is theirs.
//
// Threads: any. A ProcessLock lives for ever.
#pragma once

#include <new>

#include "base/export.h"

namespace multipy {

/// What is guarded, in the order in which the locks are taken.
enum class ForkOrder {
  graph_of_waits,
  names_of_actors,
  time_limits,
  alarms,
  pipes,
  releases,  // of the host's tensors
  gpus,
  gpu_caches,
  cuda_functions,
  bindings_of_libraries,
  graph_captures,
  mappings,
  elf_files,
  skeletons,
  definitions,
  global_symbols,
  thread_locals,
  time_zones,
  locale,
  output,
  images,  // by address: what unwinding and the seam ask at any time
};

/// Has `lock(what)` called before each fork, `unlock(what)` after it in the parent, and `renew(what)` in the child,
/// whose thread has another number than the one that locked.
MULTIPY_API void guard_across_forks(ForkOrder order, void* what, void (*lock)(void*), void (*unlock)(void*),
                                    void (*renew)(void*));

template <typename Mutex>
class ProcessLock : public Mutex {
 public:
  explicit ProcessLock(ForkOrder order) {
    guard_across_forks(
        order, static_cast<Mutex*>(this), [](void* self) { static_cast<Mutex*>(self)->lock(); },
        [](void* self) { static_cast<Mutex*>(self)->unlock(); }, [](void* self) { new (self) Mutex; });
  }
};

}  // namespace multipy
