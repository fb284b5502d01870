// Want of memory, for tests; test_without_memory.cpp has the operator new that obeys.
#pragma once

/// While it lives, the `nth` call of operator new that its thread makes throws std::bad_alloc.
class WithoutMemory {
 public:
  explicit WithoutMemory(int nth) {
    has_failed = false;
    until_failure = nth;
  }
  ~WithoutMemory() { until_failure = 0; }
  WithoutMemory(const WithoutMemory&) = delete;
  WithoutMemory& operator=(const WithoutMemory&) = delete;

  /// Whether there was such a call.
  bool failed() const { return has_failed; }

  static inline thread_local int until_failure = 0;  // 0: none is to fail
  static inline thread_local bool has_failed = false;
};
