// A mutex that is never held for long.
//
// Problem: where several threads take one often, they meet; who then sleeps loses tens of microseconds to a lock that
// is free again in less than one.
//
// Model: who finds it taken looks again, for a few microseconds at most, before it sleeps: the holder may have lost its
// CPU.
#pragma once

#include <mutex>

#include "base/spin.h"

namespace multipy {

class BriefMutex {
 public:
  void lock() {
    for (int looks = 0; looks < kLooks; ++looks) {
      if (mutex_.try_lock()) return;
      for (int pauses = 0; pauses < kPauses; ++pauses) pause_cpu();
    }
    mutex_.lock();
  }
  void unlock() { mutex_.unlock(); }

 private:
  static constexpr int kLooks = 20;
  static constexpr int kPauses = 4;
  std::mutex mutex_;
};

}  // namespace multipy
