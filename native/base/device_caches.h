// The caches of GPU memory in this process: one per interpreter that uses CUDA, the host's included.
//
// Model: whoever has a cache offers a function that empties it. The function enters that interpreter, so it may have to
// wait for its GIL. Who runs out of memory has all others emptied, each on a thread of its own, and waits a little:
// what is busy holding its GIL for long keeps its cache.
//
// Several may run out at once. Each of them has emptied its own cache before, and holds its allocator's lock until it
// is answered: nobody waits for one that asks as well.
//
// Threads: any. withdraw() waits for a call of the function that is under way, so call it without a GIL.
#pragma once

#include <chrono>
#include <memory>

#include "base/export.h"

namespace multipy {

class MULTIPY_API DeviceCaches {
 public:
  using Empty = void (*)();
  struct Offer;

  /// `owner` identifies the interpreter; see empty_others().
  static std::shared_ptr<Offer> offer(const void* owner, Empty empty);
  static void withdraw(const std::shared_ptr<Offer>& offer);
  /// Empties all caches but that of `owner`; false if there are no others, or none was done in time. `patience` is for
  /// interpreters that hold their GIL.
  static bool empty_others(const void* owner, std::chrono::milliseconds patience = std::chrono::seconds(2));
};

}  // namespace multipy
