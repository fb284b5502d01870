// What a manager, and all that came from it, share: the pool of interpreters.
//
// Owned by shared_ptr: by the manager, which closes it, and by everything that can post calls, which meets a closed
// pool afterwards. Immutable once booted, so any thread may use it.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "multipy_actors/environment.h"
#include "multipy_actors/interpreter_manager.h"
#include "outcome.h"
#include "pool/actor.h"
#include "pool/pool.h"

namespace multipy_actors::detail {

class Host {
 public:
  /// Boots and configures the interpreters; `environment` is asked for the search paths.
  static std::shared_ptr<Host> start(std::size_t interpreters, const Environment& environment,
                                     const ManagerOptions& options);

  explicit Host(std::shared_ptr<multipy::Pool> pool) : pool_(std::move(pool)) {}

  const std::shared_ptr<multipy::Pool>& pool() const noexcept { return pool_; }
  std::size_t size() const noexcept { return pool_->size(); }
  /// To one interpreter, or to the one that is free first. Throws ClosedError.
  CallPtr post(std::optional<std::size_t> interpreter, multipy::Payload request) const;
  CallPtr call_function(std::optional<std::size_t> interpreter, const std::string& module, const std::string& name,
                        const Value::List& args, const Value::Dict& kwargs) const;
  /// To all, and waits; throws the first error.
  void broadcast(const multipy::Payload& request) const;

  bool close(multipy::Deadline deadline) const;
  bool close_now(multipy::Deadline deadline) const;

 private:
  void configure(const std::vector<std::string>& search_paths, const ManagerOptions& options) const;

  const std::shared_ptr<multipy::Pool> pool_;
};

/// Keyword arguments as what is sent.
template <typename Keywords>
Value::Dict as_dict(const Keywords& kwargs) {
  return {kwargs.begin(), kwargs.end()};
}

/// An object of which interpreters have copies, or will have.
struct Replicas {
  std::shared_ptr<Host> host;
  std::shared_ptr<multipy::Actor> actor;
  std::set<std::string> batched;  // the methods whose calls may run together
};

/// Opens an actor for an object of which every interpreter makes a copy when it is first needed, from `source` (as
/// worker/operations.py's `adopt_lazily` has it). `introduction` is its label, its members and its batched methods (see
/// description.py). `number` is one from Actor::next_number().
std::shared_ptr<Replicas> replicate(const std::shared_ptr<Host>& host, std::uint64_t number, const Value& introduction,
                                    const Value::List& source);

}  // namespace multipy_actors::detail
