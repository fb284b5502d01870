// Calls of the core as this library's users see them: what they gave, or what they threw.
#pragma once

#include <exception>
#include <memory>
#include <utility>

#include "base/error.h"
#include "multipy_actors/errors.h"
#include "multipy_actors/value.h"
#include "task/call.h"

namespace multipy_actors {

using CallPtr = std::shared_ptr<multipy::Call>;

/// Sleeps until the call is done; false: `deadline` passed before. Throws DeadlockError.
bool wait_for(multipy::Call& call, multipy::Deadline deadline = std::nullopt);
/// Waits, and throws what the call threw.
void check(multipy::Call& call);
/// The same, and gives the value; what C++ has no type for is a Value of kind `object`.
Value value_of(const CallPtr& call);
/// Whatever a call gave, without a look at it.
Value unread_value_of(const CallPtr& call);

/// Runs `action`; errors of the core come out as this library's.
template <typename Action>
decltype(auto) translated(Action&& action) {
  try {
    return std::forward<Action>(action)();
  } catch (const multipy::ClosedError& error) {
    throw ClosedError(error.what());
  } catch (const multipy::StartError& error) {
    throw StartError(error.what());
  } catch (const multipy::DeadlockError& error) {
    throw DeadlockError(error.what());
  } catch (const multipy::Error& error) {
    throw Error(error.what());
  }
}

namespace detail {

/// What a Future refers to.
struct PendingCall {
  CallPtr call;
};

}  // namespace detail

}  // namespace multipy_actors
