// Whether some thread captures a CUDA stream into a graph.
//
// Problem: to record an event on all streams of a context at once (exchange/cuda.h: PinnedWork) is refused while one of
// them is being captured, and spoils the capture. CUDA does not tell whether one is.
//
// Model: references to the functions that begin and end a capture, of private images and of the host's libraries, are
// bound to ours (elf/cuda_seam.h), which count. What must not happen during a capture is done by way of outside().
//
// Threads and locks: any; one mutex of the process, held while a capture begins and while outside() runs.
//
// Not covered: captures that are begun by the driver's own functions, without the CUDA runtime.
#pragma once

#include <mutex>

#include "base/export.h"

namespace multipy {

class MULTIPY_API GraphCaptures {
 public:
  /// Calls `begin`, which begins a capture if it returns 0, and returns what it returned.
  template <typename Begin>
  static int begin(Begin begin) {
    const std::lock_guard lock(mutex());
    const int status = begin();
    if (status == 0) ++count();
    return status;
  }
  /// A capture has ended, however it did.
  static void end();
  /// Calls `action` while no capture goes on; false: one does, and it was not called.
  template <typename Action>
  static bool outside(Action action) {
    const std::lock_guard lock(mutex());
    if (count() != 0) return false;
    action();
    return true;
  }

 private:
  static std::mutex& mutex();
  static int& count();
};

}  // namespace multipy
