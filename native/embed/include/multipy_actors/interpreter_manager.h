// The interpreters of a program.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "multipy_actors/environment.h"
#include "multipy_actors/export.h"
#include "multipy_actors/future.h"
#include "multipy_actors/package.h"
#include "multipy_actors/session.h"

namespace multipy_actors {

namespace detail {
class Host;
}

struct ManagerOptions {
  /// Names interpreters and threads: `NAME-0` and so on.
  std::string name = "manager";
  /// How many threads torch, OpenMP and BLAS use in each; 0: usable CPUs divided by interpreters,
  /// unless OMP_NUM_THREADS or its like says something else.
  std::size_t intraOpThreads = 0;
  /// Modules that every interpreter imports at once.
  std::vector<std::string> preload = {};
  /// File name patterns of libraries that must, or must not, be loaded once per interpreter.
  std::vector<std::string> privateLibraries = {};
  std::vector<std::string> sharedLibraries = {};
  /// Each line that Python code prints begins with its interpreter's name.
  bool prefixOutput = false;
  /// How long finding Python and booting may take.
  std::chrono::milliseconds startTimeout = std::chrono::minutes(2);
};

/// One interpreter of a manager.
class MULTIPY_ACTORS_API Interpreter {
 public:
  Interpreter(std::shared_ptr<detail::Host> host, std::size_t id) : host_(std::move(host)), id_(id) {}

  /// From 0.
  std::size_t id() const noexcept { return id_; }
  /// Waits until it is free, and holds it.
  InterpreterSession acquireSession() const;
  /// Calls `name`, which may have dots, of a module in this interpreter.
  template <typename... Args>
  Future submit(const std::string& module, const std::string& name, Args&&... args) const {
    return submitCall(module, name, Value::List{Value(std::forward<Args>(args))...});
  }
  Future submitCall(const std::string& module, const std::string& name, const Value::List& args,
                    const std::unordered_map<std::string, Value>& kwargs = {}) const;

 private:
  std::shared_ptr<detail::Host> host_;
  std::size_t id_;
};

class MULTIPY_ACTORS_API InterpreterManager {
 public:
  /// Boots so many interpreters at once. Throws StartError if no Python is found or one does not come up.
  explicit InterpreterManager(std::size_t interpreters = 2,
                              std::shared_ptr<const Environment> environment = std::make_shared<NoopEnvironment>(),
                              const ManagerOptions& options = {});
  InterpreterManager(InterpreterManager&&) noexcept = default;
  InterpreterManager& operator=(InterpreterManager&&) noexcept;
  /// Runs what was submitted, then ends the interpreters, as close() does; closeNow() while an exception passes.
  ~InterpreterManager();

  std::size_t size() const noexcept { return interpreters_.size(); }
  const std::vector<Interpreter>& allInstances() const noexcept { return interpreters_; }
  /// Waits until an interpreter is free, and holds it.
  InterpreterSession acquireOne() const;
  /// Opens a file that torch.package wrote. Throws Error if it cannot be read.
  Package loadPackage(const std::string& path) const;
  Package loadPackage(const Reader& reader) const;
  Package loadPackage(const std::shared_ptr<const Reader>& reader) const { return loadPackage(*reader); }
  /// Makes `name` importable in all interpreters, by whatever is submitted from now on; that it is Python is seen then.
  void registerModuleSource(const std::string& name, const std::string& source) const;
  /// Copies an object of any session of this manager to every interpreter.
  ReplicatedObj createMovable(const Obj& object) const;
  /// Calls `name`, which may have dots, of a module in the interpreter that is free first.
  template <typename... Args>
  Future submit(const std::string& module, const std::string& name, Args&&... args) const {
    return submitCall(module, name, Value::List{Value(std::forward<Args>(args))...});
  }
  Future submitCall(const std::string& module, const std::string& name, const Value::List& args,
                    const std::unordered_map<std::string, Value>& kwargs = {}) const;

  /// No more calls; runs what was submitted and waits for the end of the interpreters. False: `timeout` passed before,
  /// or code that no call waits for went on (a finaliser, say) and was left behind.
  bool close(std::chrono::milliseconds timeout = std::chrono::milliseconds::max());
  /// Cancels what waits, interrupts what runs, and waits `grace` for the end. False: what goes on is left behind.
  bool closeNow(std::chrono::milliseconds grace = std::chrono::seconds(2));

 private:
  detail::Host& host() const;

  std::shared_ptr<detail::Host> host_;
  std::vector<Interpreter> interpreters_;
};

}  // namespace multipy_actors
