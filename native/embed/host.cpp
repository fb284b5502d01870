#include "host.h"

#include <algorithm>
#include <cstdlib>
#include <thread>
#include <utility>

#include "description.h"
#include "parts.h"
#include "pool/closing.h"
#include "wire.h"

namespace multipy_actors::detail {

namespace {

using multipy::Clock;
using multipy::WaitResult;

// As in multipy_actors/pool/pool.py.
constexpr const char* kThreadVariables[] = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
                                            "NUMEXPR_NUM_THREADS"};
constexpr std::int64_t kConcurrency = 100;  // as in multipy_actors/actors/creation.py

std::shared_ptr<multipy::Pool> make_pool(std::size_t count, const Description& description,
                                         const std::vector<std::string>& search_paths, const ManagerOptions& options) {
  multipy::InterpreterOptions interpreter;
  interpreter.libpython = description.libpython;
  interpreter.extension = description.extension;
  interpreter.settings = description.settings;
  for (const auto& path : search_paths) interpreter.settings.emplace_back("module_search_paths", path);
  interpreter.policy = multipy::elf::Policy::standard();
  for (const auto& name : options.privateLibraries) interpreter.policy.private_patterns.push_back(name);
  for (const auto& name : options.sharedLibraries) interpreter.policy.shared_patterns.push_back(name);
  interpreter.policy.check(interpreter.libpython, interpreter.extension);
  std::vector<multipy::InterpreterOptions> all(count, interpreter);
  for (std::size_t i = 0; i < count; ++i) all[i].name = options.name + "-" + std::to_string(i);
  auto pool = std::make_shared<multipy::Pool>(all, options.name);
  const bool chosen = options.intraOpThreads != 0;
  // Where this one is set, the others follow it.
  if (!chosen && std::getenv(kThreadVariables[0]) != nullptr) return pool;
  const std::size_t cpus = std::max(1U, std::thread::hardware_concurrency());
  const auto threads = std::to_string(chosen ? options.intraOpThreads : std::max<std::size_t>(1, cpus / count));
  for (std::size_t i = 0; i < count; ++i) {
    for (const char* name : kThreadVariables) {
      pool->interpreter(i).images().environment().set(name, threads.c_str(), chosen);
    }
  }
  return pool;
}

template <typename Action>
bool repeated(Action action) {
  WaitResult result;
  do {
    result = action();
  } while (result == WaitResult::interrupted);
  return result == WaitResult::woken;
}

}  // namespace

std::shared_ptr<Host> Host::start(std::size_t interpreters, const Environment& environment,
                                  const ManagerOptions& options) {
  if (interpreters == 0) throw StartError("a manager has one interpreter at least");
  const auto deadline = Clock::now() + options.startTimeout;
  auto description = describe(find_python(environment.python()), deadline);
  const auto search_paths = environment.searchPaths(std::move(description.search_paths));
  return translated([&] {
    auto host = std::make_shared<Host>(make_pool(interpreters, description, search_paths, options));
    try {
      host->pool_->start();
      if (!repeated([&] { return host->pool_->wait_started(deadline); }))
        throw StartError("the interpreters are not up in time");
      host->configure(search_paths, options);
    } catch (...) {
      host->close_now(Clock::now() + std::chrono::seconds(2));
      throw;
    }
    return host;
  });
}

void Host::configure(const std::vector<std::string>& search_paths, const ManagerOptions& options) const {
  broadcast(wire::encode_request({"configure"}, {},
                                 {{"search_paths", search_paths},
                                  {"prefix_output", options.prefixOutput},
                                  {"preload", options.preload},
                                  {"initializer", nullptr},
                                  {"initargs", Value::List{}}}));
}

CallPtr Host::post(std::optional<std::size_t> interpreter, multipy::Payload request) const {
  return translated([&] {
    auto call = std::make_shared<multipy::Call>(std::move(request));
    pool_->dispatcher().post(interpreter ? pool_->own_mailbox(*interpreter) : pool_->any_mailbox(), call);
    return call;
  });
}

CallPtr Host::call_function(std::optional<std::size_t> interpreter, const std::string& module, const std::string& name,
                            const Value::List& args, const Value::Dict& kwargs) const {
  return post(interpreter, wire::encode_request({"call", Object::function(module, name)}, args, kwargs));
}

void Host::broadcast(const multipy::Payload& request) const {
  std::vector<CallPtr> calls;
  for (std::size_t i = 0; i < size(); ++i) calls.push_back(post(i, request));
  for (const auto& call : calls) check(*call);
}

bool Host::close(multipy::Deadline deadline) const {
  if (pool_->is_lost()) return true;
  pool_->close();
  multipy::Closing closing(pool_);
  repeated([&] { return closing.wait(deadline); });
  if (closing.has_ended()) return true;
  if (!deadline || Clock::now() < *deadline) closing.leave({});
  return false;
}

bool Host::close_now(multipy::Deadline deadline) const {
  if (pool_->is_lost()) return true;
  pool_->dispatcher().cancel_pending();
  pool_->close();
  pool_->interrupt_running();
  if (repeated([&] { return pool_->join(deadline); })) return true;
  multipy::Closing(pool_).leave({});
  return false;
}

std::shared_ptr<Replicas> replicate(const std::shared_ptr<Host>& host, std::uint64_t number, const Value& introduction,
                                    const Value::List& source) {
  const std::string& label = introduction.at(0).toText();
  const Value& members = introduction.at(1);
  const Value& batching = introduction.at(2);
  Value::Dict options{{"batching", batching}};
  std::set<std::string> batched;
  for (const auto& [name, limits] : batching.toDict()) batched.insert(name.toText());
  for (const auto& [name, kind] : members.toDict()) {
    if (kind.toText() == "coroutine" || kind.toText() == "async generator") {
      options.emplace_back("max_concurrency", kConcurrency);
      break;
    }
  }
  const auto& pool = host->pool();
  // What handles in interpreters know: the members; callers wait for room; no time limit; what is batched; no
  // call is made again.
  const auto description = wire::encode(Value::List{members, true, nullptr, batching, "arrays", 0});
  const auto farewell = wire::encode_request({"drop", number}, {});
  const auto interpreters = pool->place(pool->size());
  const auto request =
      wire::encode_request({"adopt_lazily", number, options}, {Value(source)}, {{"label", label}}, /*deep=*/true);
  return translated([&] {
    auto actor = multipy::Actor::create(pool, {.number = number,
                                               .interpreters = interpreters,
                                               .label = label,
                                               .name = {},
                                               .description = description.data,
                                               .farewell = farewell.data,
                                               .limit = 0});
    for (const std::size_t i : interpreters) actor->make_replica(i, request);
    actor->announce();
    return std::make_shared<Replicas>(Replicas{host, std::move(actor), batched});
  });
}

}  // namespace multipy_actors::detail
