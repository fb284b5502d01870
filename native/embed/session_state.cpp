#include "session_state.h"

#include <utility>
#include <vector>

#include "wire.h"

namespace multipy_actors::detail {

std::shared_ptr<Session> Session::acquire(std::shared_ptr<Host> host, std::optional<std::size_t> interpreter) {
  auto held = translated([&] { return multipy::Session::request(host->pool(), interpreter); });
  wait_for(*held->granted());
  if (held->granted()->state() != multipy::CallState::succeeded)
    throw ClosedError("the manager was closed before an interpreter was free");
  return std::make_shared<Session>(std::move(host), std::move(held));
}

CallPtr Session::post(const std::string& name, Value::List rest, const Value::List& args,
                      const Value::Dict& kwargs) const {
  if (held_->ended()) throw SessionError("the session has ended");
  rest.insert(rest.begin(), {"session", held_->id(), name});
  auto request = wire::encode_request(rest, args, kwargs);
  return translated([&] { return held_->post(std::move(request)); });
}

Obj Session::object(const std::string& name, Value::List rest, const Value::List& args, const Value::Dict& kwargs) {
  const std::int64_t number = value_of(post(name, std::move(rest), args, kwargs)).toInt();
  return Obj(std::make_shared<SessionObject>(shared_from_this(), number));
}

const std::shared_ptr<Session>& Session::of(const Obj& object) { return object.object().session; }

std::int64_t Session::number_of(const Obj& object) const {
  if (!owns(object)) throw SessionError("the Obj is of another session");
  return object.object_->number;
}

bool Session::owns(const Obj& object) const noexcept {
  return object.object_ != nullptr && object.object_->session.get() == this;
}

void Session::forget(std::int64_t number) const noexcept {
  if (held_->ended() || host_->pool()->closed() || host_->pool()->is_lost()) return;
  try {
    post("forget", {Value(Value::List{number})});
  } catch (const Error&) {
    // The table has gone meanwhile, or goes with the interpreter.
  }
}

ReplicatedObj Session::create_movable(const Obj& object) const {
  const std::int64_t number = number_of(object);
  const auto introduced = post("describe", {number});
  const auto source = post("movable", {number});
  // Here, as copies are made when they are needed, and what cannot be copied is an error of this call.
  check(*source);
  return ReplicatedObj(
      replicate(host_, multipy::Actor::next_number(), value_of(introduced), {unread_value_of(source)}));
}

void Session::end() noexcept {
  // In a forked child nobody is there to be told.
  if (held_->ended() || host_->pool()->is_lost()) return;
  try {
    post("end", {});
  } catch (const Error&) {
    // The interpreter ends, and its tables with it.
  }
  held_->end();
}

}  // namespace multipy_actors::detail
