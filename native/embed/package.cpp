// Packages, in requests that multipy_actors/worker/torch_packages.py serves; see multipy_actors/package.h.
#include "multipy_actors/package.h"

#include <string>
#include <utility>
#include <vector>

#include "package_source.h"
#include "parts.h"
#include "session_state.h"
#include "wire.h"

namespace multipy_actors {

namespace detail {

namespace {

std::shared_ptr<const PackageSource> open_as(const std::shared_ptr<Host>& host, const std::string& name,
                                             const Value& contents) {
  const std::uint64_t number = multipy::Actor::next_number();
  auto opened = host->post(std::nullopt, wire::encode_request({"package", "open", number, name}, {contents}));
  check(*opened);
  return std::make_shared<const PackageSource>(host, std::move(opened), number);
}

}  // namespace

std::shared_ptr<const PackageSource> PackageSource::open(const std::shared_ptr<Host>& host, const std::string& path) {
  return open_as(host, path, path);
}

std::shared_ptr<const PackageSource> PackageSource::open(const std::shared_ptr<Host>& host, const Reader& reader) {
  std::vector<unsigned char> contents(reader.size());
  std::size_t filled = 0;
  while (filled < contents.size()) {
    const std::size_t count = reader.read(filled, contents.data() + filled, contents.size() - filled);
    if (count == 0)
      throw Error("a reader has given " + std::to_string(filled) + " bytes of " + std::to_string(contents.size()));
    filled += count;
  }
  if (contents.empty()) throw Error("a reader has given no bytes");
  const Tensor memory = Tensor::of(std::move(contents));
  return open_as(host, "<reader>", Object::wrap({.attachment = TensorParts::of(memory).shared, .is_memory = true}));
}

PackageSource::~PackageSource() {
  const auto& pool = host->pool();
  if (pool->is_lost()) return;
  try {
    const auto request = wire::encode_request({"package", "close", number}, {});
    for (std::size_t i = 0; i < host->size() && !pool->closed(); ++i) host->post(i, request);
  } catch (const Error&) {
    // The interpreters end, and the package with them.
  }
}

CallPtr PackageSource::post(Value::List operation, Value::List args) const {
  args.insert(args.begin(), unread_value_of(opened));
  return host->post(std::nullopt, wire::encode_request(operation, args));
}

ReplicatedObj PackageSource::replicate(const CallPtr& load, std::uint64_t actor, const Value::List& source) const {
  check(*load);
  const auto loader = static_cast<std::size_t>(load->worker());
  try {
    const auto introduced = host->post(loader, wire::encode_request({"describe", actor}, {}));
    return ReplicatedObj(detail::replicate(host, actor, value_of(introduced), source));
  } catch (const Error&) {
    if (!host->pool()->closed()) host->post(loader, wire::encode_request({"drop", actor}, {}));
    throw;
  }
}

}  // namespace detail

Reader::~Reader() = default;

ReplicatedObj Package::loadPickle(const std::string& module, const std::string& resource, bool eager) const {
  const std::uint64_t number = multipy::Actor::next_number();
  const auto load = source_->post({"package", "load", number}, {module, resource, nullptr});
  const Value::List from{"pickle", unread_value_of(source_->opened), unread_value_of(load), module, resource, nullptr};
  auto model = source_->replicate(load, number, from);
  if (eager) source_->host->broadcast(wire::encode_request({"load", number}, {}));
  return model;
}

ReplicatedObj Package::importModule(const std::string& name) const {
  const std::uint64_t number = multipy::Actor::next_number();
  const auto load = source_->post({"package", "import", number}, {name});
  return source_->replicate(load, number, {"module", unread_value_of(source_->opened), name});
}

std::string Package::loadText(const std::string& module, const std::string& resource) const {
  return value_of(source_->post({"package", "ask", "load_text"}, {module, resource})).toText();
}

std::string Package::loadBinary(const std::string& module, const std::string& resource) const {
  return value_of(source_->post({"package", "ask", "load_binary"}, {module, resource})).toBytes();
}

InterpreterSession Package::acquireSession() const {
  InterpreterSession session(detail::Session::acquire(source_->host));
  session.session_->package = {unread_value_of(source_->opened)};
  session.self = session.session_->object("self", {}, session.session_->package);
  return session;
}

}  // namespace multipy_actors
