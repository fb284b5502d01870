// Interpreters in a program that has no Python of its own: what multipy_actors/pool/pool.py does for a host that has.
//
// What a Python tells of itself (its libpython, the extension module, the fields of PyConfig and sys.path) is read
// from a file, which the test has had that Python write. Functions are called by the name of their module.
#pragma once

#include <chrono>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "document.h"
#include "pool/pool.h"

constexpr std::chrono::seconds kPatience{100};

inline void require(bool condition, const std::string& claim) {
  if (!condition) throw std::runtime_error("not true: " + claim);
}

/// What a call raised.
struct RemoteError : std::runtime_error {
  RemoteError(std::string kind_, const std::string& text, std::string traceback_)
      : std::runtime_error(text), kind(std::move(kind_)), traceback(std::move(traceback_)) {}
  std::string kind;
  std::string traceback;
};

/// Two texts: libpython and the extension module; then pairs of names and values. Each ends with a zero byte.
inline multipy::InterpreterOptions read_description(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  require(file.good(), path + " can be read");
  std::vector<std::string> texts;
  for (std::string text; std::getline(file, text, '\0');) texts.push_back(text);
  require(texts.size() >= 2 && texts.size() % 2 == 0, path + " is a description");
  multipy::InterpreterOptions options;
  options.libpython = texts[0];
  options.extension = texts[1];
  for (std::size_t i = 2; i < texts.size(); i += 2) options.settings.emplace_back(texts[i], texts[i + 1]);
  options.policy = multipy::elf::Policy::standard();
  return options;
}

class Interpreters {
 public:
  using CallPtr = std::shared_ptr<multipy::Call>;

  Interpreters(const multipy::InterpreterOptions& options, std::size_t count) {
    std::vector<multipy::InterpreterOptions> all(count, options);
    for (std::size_t i = 0; i < count; ++i) all[i].name = "guest-" + std::to_string(i);
    pool_ = std::make_shared<multipy::Pool>(all);
    pool_->start();
  }

  multipy::Pool& pool() { return *pool_; }

  /// Waits until they are up, and gives them the exact search path.
  void configure(const multipy::InterpreterOptions& options) {
    require(pool_->wait_started(deadline()) == multipy::WaitResult::woken, "interpreters start in time");
    std::vector<document::Bytes> paths;
    for (const auto& [name, value] : options.settings) {
      if (name == "module_search_paths") paths.push_back(document::text(value));
    }
    const auto request = document::request(document::list({document::text("configure")}), document::list({}),
                                           document::dictionary({{"search_paths", document::list(paths)},
                                                                 {"preload", document::list({})},
                                                                 {"initializer", document::nothing()},
                                                                 {"initargs", document::list({})}}));
    std::vector<CallPtr> calls;
    for (std::size_t i = 0; i < pool_->size(); ++i) {
      mailboxes_.push_back(pool_->dispatcher().open_mailbox({i}));
      calls.push_back(post(i, request));
    }
    for (const auto& call : calls) value_of(*call);
  }

  /// Has interpreter `index` call `name` of guest.py.
  CallPtr submit(std::size_t index, const std::string& name, const std::vector<document::Bytes>& args = {}) {
    const auto operation = document::list({document::text("call"), document::function("guest", name)});
    return post(index, document::request(operation, document::list(args), document::dictionary({})));
  }

  /// The value of a call, or RemoteError.
  static document::Value value_of(multipy::Call& call) {
    multipy::WaitResult result;
    do result = call.wait(deadline());
    while (result == multipy::WaitResult::interrupted);
    require(call.done(), "a call ends in time");
    const auto value = document::Reader(call.result().data).read();
    if (call.state() == multipy::CallState::succeeded) return value;
    // The pickled exception, then three texts for whoever cannot read that.
    require(value.items.size() == 4, "an exception has four parts");
    throw RemoteError(value.items[1].text, value.items[2].text, value.items[3].text);
  }

  document::Value call(std::size_t index, const std::string& name, const std::vector<document::Bytes>& args = {}) {
    return value_of(*submit(index, name, args));
  }

  void close() {
    pool_->close();
    require(pool_->join(deadline()) == multipy::WaitResult::woken, "interpreters end in time");
  }

 private:
  static multipy::Deadline deadline() { return multipy::Clock::now() + kPatience; }

  CallPtr post(std::size_t index, const document::Bytes& request) {
    multipy::Payload payload;
    payload.data = request;
    auto call = std::make_shared<multipy::Call>(std::move(payload));
    pool_->dispatcher().post(mailboxes_.at(index), call);
    return call;
  }

  std::shared_ptr<multipy::Pool> pool_;
  std::vector<multipy::Dispatcher::MailboxId> mailboxes_;
};
