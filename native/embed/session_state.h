// A session as all that refers to it shares it: its InterpreterSession, and every Obj of it.
//
// The core's Session holds the interpreter; the objects are in the interpreter, in a table by number (see
// multipy_actors/worker/session_objects.py). The end is told to the interpreter first and then to the core, by whoever
// has the InterpreterSession; what an Obj asks for afterwards is refused here. Any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "host.h"
#include "multipy_actors/session.h"
#include "pool/session.h"

namespace multipy_actors::detail {

class Session final : public std::enable_shared_from_this<Session> {
 public:
  /// Waits until `interpreter`, or any one, is held. Throws ClosedError.
  static std::shared_ptr<Session> acquire(std::shared_ptr<Host> host, std::optional<std::size_t> interpreter = {});

  Session(std::shared_ptr<Host> host, std::shared_ptr<multipy::Session> held)
      : host_(std::move(host)), held_(std::move(held)) {}
  ~Session() { end(); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const std::shared_ptr<Host>& host() const noexcept { return host_; }
  std::size_t interpreter() const noexcept { return held_->interpreter(); }
  /// What global() passes to the interpreter so that it looks into a package first: its reference, or nothing.
  Value::List package;

  /// Posts operation `name`. Throws SessionError after the end.
  CallPtr post(const std::string& name, Value::List rest, const Value::List& args = {},
               const Value::Dict& kwargs = {}) const;
  /// The same for an operation that gives an object.
  Obj object(const std::string& name, Value::List rest, const Value::List& args = {}, const Value::Dict& kwargs = {});
  /// The number of one of this session's objects; throws SessionError for others.
  std::int64_t number_of(const Obj& object) const;
  bool owns(const Obj& object) const noexcept;
  void forget(std::int64_t number) const noexcept;
  ReplicatedObj create_movable(const Obj& object) const;
  void end() noexcept;

  static const std::shared_ptr<Session>& of(const Obj& object);

 private:
  const std::shared_ptr<Host> host_;
  const std::shared_ptr<multipy::Session> held_;
};

struct SessionObject {
  SessionObject(std::shared_ptr<Session> owner, std::int64_t place) : session(std::move(owner)), number(place) {}
  ~SessionObject() { session->forget(number); }
  SessionObject(const SessionObject&) = delete;
  SessionObject& operator=(const SessionObject&) = delete;

  const std::shared_ptr<Session> session;
  const std::int64_t number;
};

}  // namespace multipy_actors::detail
