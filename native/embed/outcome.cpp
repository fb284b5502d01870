#include "outcome.h"

#include <string_view>

#include "parts.h"
#include "wire.h"

namespace multipy_actors {

namespace {

constexpr std::string_view kOwn = "multipy_actors.errors.";

[[noreturn]] void raise(const std::string& type, const std::string& message, const std::string& traceback) {
  // What the library itself reports is the same in both languages.
  if (type.compare(0, kOwn.size(), kOwn) == 0) {
    const std::string name = type.substr(kOwn.size());
    if (name == "ActorClosedError" || name == "PoolClosedError" || name == "InterpreterDiedError")
      throw ClosedError(message);
    if (name == "SessionError") throw SessionError(message);
    if (name == "DeadlockError") throw DeadlockError(message);
  }
  throw RemoteError(type, message, traceback);
}

[[noreturn]] void raise_error_of(const multipy::Call& call) {
  if (call.state() == multipy::CallState::cancelled) throw CancelledError("the call was cancelled");
  const multipy::Payload& error = call.result();
  if (error.data.empty() && call.interrupted())
    throw RemoteError(std::string(kOwn) + "Interrupted", "the call was interrupted", {});
  if (error.data.empty()) throw ClosedError("the interpreter ended before the call was done");
  Value parts;
  try {
    parts = wire::decode(error);
  } catch (const wire::Foreign&) {
    throw RemoteError("Exception", "its text is no valid Unicode", {});
  }
  // The pickled exception, for Python, then three texts.
  const bool is_sequence = parts.kind() == Value::Kind::tuple || parts.kind() == Value::Kind::list;
  if (!is_sequence || parts.size() != 4) throw Error("a call has failed without saying why");
  raise(parts.at(1).to<std::string>(), parts.at(2).to<std::string>(), parts.at(3).to<std::string>());
}

}  // namespace

bool wait_for(multipy::Call& call, multipy::Deadline deadline) {
  return translated([&] {
    while (!call.done()) {
      if (call.wait(deadline) == multipy::WaitResult::timed_out) return call.done();
    }
    return true;
  });
}

void check(multipy::Call& call) {
  wait_for(call);
  if (call.state() != multipy::CallState::succeeded) raise_error_of(call);
}

Value value_of(const CallPtr& call) {
  check(*call);
  try {
    return wire::decode(call->result());
  } catch (const wire::Foreign&) {
    return unread_value_of(call);
  }
}

Value unread_value_of(const CallPtr& call) { return detail::Object::wrap({.attachment = call, .is_result = true}); }

}  // namespace multipy_actors
