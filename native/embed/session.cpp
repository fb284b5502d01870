// Sessions, objects and replicated objects, in requests; see multipy_actors/session.h.
#include "multipy_actors/session.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "host.h"
#include "parts.h"
#include "session_state.h"
#include "wire.h"

namespace multipy_actors {

using detail::Replicas;

// Obj --------------------------------------------------------------------------------------------------------

detail::SessionObject& Obj::object() const {
  if (object_ == nullptr) throw SessionError("the Obj is of no object");
  return *object_;
}

Obj Obj::call(const Arguments& args) const { return callKwargs(args, {}); }

Obj Obj::callKwargs(const KeywordArguments& kwargs) const { return callKwargs({}, kwargs); }

Obj Obj::callKwargs(const Arguments& args, const KeywordArguments& kwargs) const {
  const auto& session = object().session;
  // Objects are told by their numbers, and None stands in their place.
  Value::Dict objects;
  Value::List values;
  Value::Dict named;
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (args[i].isObject()) objects.emplace_back(i, session->number_of(args[i].object()));
    values.push_back(args[i].value());
  }
  for (const auto& [name, argument] : kwargs) {
    if (argument.isObject()) objects.emplace_back(name, session->number_of(argument.object()));
    named.emplace_back(name, argument.value());
  }
  return session->object("call", {object_->number, objects}, values, named);
}

Obj Obj::attr(const std::string& name) const { return object().session->object("attr", {object_->number, name}); }

bool Obj::hasattr(const std::string& name) const {
  return value_of(object().session->post("hasattr", {object_->number, name})).toBool();
}

Value Obj::value() const { return value_of(object().session->post("value", {object_->number})); }

// InterpreterSession -----------------------------------------------------------------------------------------

InterpreterSession::InterpreterSession(std::shared_ptr<detail::Session> session) : session_(std::move(session)) {}

InterpreterSession& InterpreterSession::operator=(InterpreterSession&& other) noexcept {
  end();
  self = std::move(other.self);
  session_ = std::move(other.session_);
  return *this;
}

InterpreterSession::~InterpreterSession() { end(); }

void InterpreterSession::end() noexcept {
  if (session_ != nullptr) session_->end();
}

detail::Session& InterpreterSession::session() const {
  if (session_ == nullptr) throw SessionError("the session was moved from");
  return *session_;
}

Obj InterpreterSession::global(const std::string& module, const std::string& name) const {
  return session().object("global", {module, name}, session_->package);
}

Obj InterpreterSession::fromValue(const Value& value) const { return session().object("put", {}, {value}); }

Obj InterpreterSession::fromMovable(const ReplicatedObj& movable) const {
  const Replicas& replicas = movable.replicas();
  if (replicas.host != session().host()) throw SessionError("the object is in the interpreters of another manager");
  return session_->object("from_movable", {replicas.actor->number()});
}

ReplicatedObj InterpreterSession::createMovable(const Obj& object) const { return session().create_movable(object); }

bool InterpreterSession::isOwner(const Obj& object) const noexcept {
  return session_ != nullptr && session_->owns(object);
}

std::size_t InterpreterSession::interpreter() const { return session().interpreter(); }

// ReplicatedObj ----------------------------------------------------------------------------------------------

namespace {

/// What calls get that nobody can run any more.
multipy::Payload unloaded(const std::string& label) {
  return wire::encode(Value::tuple(
      {nullptr, "multipy_actors.errors.ActorClosedError", label + " was unloaded", "the object was unloaded\n"}));
}

/// What says which calls of a method can run together: those that pass their arguments alike (see actors/handle.py).
std::string batch_of(const Replicas& replicas, const std::string& method, std::size_t args,
                     const std::unordered_map<std::string, Value>& kwargs) {
  if (!replicas.batched.contains(method) || (args == 0 && kwargs.empty())) return {};
  std::set<std::string> names;
  for (const auto& [name, value] : kwargs) names.insert(name);
  std::string batch = method + "\n" + std::to_string(args);
  for (const auto& name : names) batch += "\n" + name;
  return batch;
}

CallPtr post(const Replicas& replicas, multipy::Payload request, std::string batch = {}) {
  return translated([&] {
    auto call = replicas.actor->make_call(std::move(request));
    call->set_batch(std::move(batch));
    replicas.actor->post(call);
    return call;
  });
}

}  // namespace

Replicas& ReplicatedObj::replicas() const {
  if (replicas_ == nullptr) throw Error("the ReplicatedObj is of no object");
  return *replicas_;
}

Future ReplicatedObj::submitKwargs(const Value::List& args,
                                   const std::unordered_map<std::string, Value>& kwargs) const {
  return submitMethod("__call__", args, kwargs);
}

Future ReplicatedObj::submitMethod(const std::string& name, const Value::List& args,
                                   const std::unordered_map<std::string, Value>& kwargs) const {
  auto request = wire::encode_request({"method", replicas().actor->number(), name}, args, detail::as_dict(kwargs));
  auto batch = batch_of(*replicas_, name, args.size(), kwargs);
  return Future(std::make_shared<detail::PendingCall>(
      detail::PendingCall{post(*replicas_, std::move(request), std::move(batch))}));
}

bool ReplicatedObj::hasattr(const std::string& name) const {
  return value_of(post(replicas(), wire::encode_request({"has", replicas_->actor->number(), name}, {}))).toBool();
}

InterpreterSession ReplicatedObj::acquireSession() const {
  const auto holders = translated([&] { return replicas().actor->interpreters(); });
  if (holders.empty()) throw ClosedError(replicas_->actor->label() + " was unloaded");
  const bool everywhere = holders.size() == replicas_->host->size();
  InterpreterSession session(
      detail::Session::acquire(replicas_->host, everywhere ? std::nullopt : std::optional(holders.front())));
  session.self = session.fromMovable(*this);
  return session;
}

InterpreterSession ReplicatedObj::acquireSession(const Interpreter& interpreter) const {
  InterpreterSession session = interpreter.acquireSession();
  session.self = session.fromMovable(*this);
  return session;
}

void ReplicatedObj::unload() const {
  const auto error = unloaded(replicas().actor->label());
  translated([&] {
    for (const std::size_t i : replicas_->actor->interpreters()) replicas_->actor->unload(i, error);
  });
}

void ReplicatedObj::unload(const Interpreter& interpreter) const {
  const auto error = unloaded(replicas().actor->label());
  translated([&] { replicas_->actor->unload(interpreter.id(), error); });
}

Value ReplicatedObj::toValue() const { return detail::Object::wrap({.attachment = replicas().actor}); }

}  // namespace multipy_actors
