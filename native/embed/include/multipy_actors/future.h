// What a call will have given once it is done.
//
// As std::shared_future: copies refer to the same call, and get() can be asked for as often as one likes. Unlike
// std::async's, a Future that is dropped does not wait.
#pragma once

#include <chrono>
#include <future>
#include <memory>

#include "multipy_actors/export.h"
#include "multipy_actors/value.h"

namespace multipy_actors {

namespace detail {
struct PendingCall;
}

class MULTIPY_ACTORS_API Future {
 public:
  /// Of no call: valid() is false, and everything else throws Error.
  Future() = default;
  explicit Future(std::shared_ptr<detail::PendingCall> call) : call_(std::move(call)) {}

  bool valid() const noexcept { return call_ != nullptr; }
  bool done() const;
  /// Waits, and returns the value. Throws RemoteError for what the Python code raised, CancelledError after cancel(),
  /// ClosedError if the interpreter ended before the call was done.
  Value get() const;
  template <typename T>
  T get() const {
    return get().to<T>();
  }
  void wait() const;
  template <typename Rep, typename Period>
  std::future_status wait_for(const std::chrono::duration<Rep, Period>& duration) const {
    return wait_until(std::chrono::steady_clock::now() +
                      std::chrono::duration_cast<std::chrono::steady_clock::duration>(duration));
  }
  std::future_status wait_until(std::chrono::steady_clock::time_point deadline) const;
  /// Takes the call back; true if it will not run. With `interrupt`, what runs already is asked to end: it raises
  /// Interrupted at its next bytecode.
  bool cancel(bool interrupt = false) const;

 private:
  detail::PendingCall& call() const;

  std::shared_ptr<detail::PendingCall> call_;
};

}  // namespace multipy_actors
