// A manager is a Host and its interpreters; see multipy_actors/interpreter_manager.h.
#include "multipy_actors/interpreter_manager.h"

#include <exception>
#include <filesystem>
#include <utility>

#include "host.h"
#include "outcome.h"
#include "package_source.h"
#include "session_state.h"
#include "wire.h"

namespace multipy_actors {

namespace {

multipy::Deadline deadline_after(std::chrono::milliseconds timeout) {
  if (timeout == std::chrono::milliseconds::max()) return std::nullopt;
  return multipy::Clock::now() + timeout;
}

Future future_of(CallPtr call) {
  return Future(std::make_shared<detail::PendingCall>(detail::PendingCall{std::move(call)}));
}

}  // namespace

// Interpreter ------------------------------------------------------------------------------------------------

InterpreterSession Interpreter::acquireSession() const {
  return InterpreterSession(detail::Session::acquire(host_, id_));
}

Future Interpreter::submitCall(const std::string& module, const std::string& name, const Value::List& args,
                               const std::unordered_map<std::string, Value>& kwargs) const {
  return future_of(host_->call_function(id_, module, name, args, detail::as_dict(kwargs)));
}

// InterpreterManager -----------------------------------------------------------------------------------------

InterpreterManager::InterpreterManager(std::size_t interpreters, std::shared_ptr<const Environment> environment,
                                       const ManagerOptions& options) {
  if (environment == nullptr) environment = std::make_shared<NoopEnvironment>();
  host_ = detail::Host::start(interpreters, *environment, options);
  for (std::size_t i = 0; i < interpreters; ++i) interpreters_.emplace_back(host_, i);
  try {
    for (Interpreter& interpreter : interpreters_) environment->configureInterpreter(interpreter);
  } catch (...) {
    closeNow();
    throw;
  }
}

InterpreterManager& InterpreterManager::operator=(InterpreterManager&& other) noexcept {
  if (this == &other) return *this;
  if (host_ != nullptr) host_->close(std::nullopt);
  host_ = std::move(other.host_);
  interpreters_ = std::move(other.interpreters_);
  return *this;
}

InterpreterManager::~InterpreterManager() {
  if (host_ == nullptr) return;
  if (std::uncaught_exceptions() != 0) {
    closeNow();
  } else {
    host_->close(std::nullopt);
  }
}

detail::Host& InterpreterManager::host() const {
  if (host_ == nullptr) throw ClosedError("the manager was moved from");
  return *host_;
}

InterpreterSession InterpreterManager::acquireOne() const {
  host();
  return InterpreterSession(detail::Session::acquire(host_));
}

void InterpreterManager::registerModuleSource(const std::string& name, const std::string& source) const {
  const auto request = wire::encode_request({"source", name, source}, {});
  // Whatever is posted from now on comes after it.
  for (std::size_t i = 0; i < size(); ++i) host().post(i, request);
}

Package InterpreterManager::loadPackage(const std::string& path) const {
  host();
  return Package(detail::PackageSource::open(host_, std::filesystem::absolute(path).lexically_normal()));
}

Package InterpreterManager::loadPackage(const Reader& reader) const {
  host();
  return Package(detail::PackageSource::open(host_, reader));
}

ReplicatedObj InterpreterManager::createMovable(const Obj& object) const {
  const auto& session = detail::Session::of(object);
  if (session->host() != host_) throw SessionError("the Obj is in the interpreters of another manager");
  return session->create_movable(object);
}

Future InterpreterManager::submitCall(const std::string& module, const std::string& name, const Value::List& args,
                                      const std::unordered_map<std::string, Value>& kwargs) const {
  return future_of(host().call_function(std::nullopt, module, name, args, detail::as_dict(kwargs)));
}

bool InterpreterManager::close(std::chrono::milliseconds timeout) { return host().close(deadline_after(timeout)); }

bool InterpreterManager::closeNow(std::chrono::milliseconds grace) { return host().close_now(deadline_after(grace)); }

}  // namespace multipy_actors
