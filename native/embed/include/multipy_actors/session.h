// Working with Python's objects where they are, and moving them to every interpreter.
//
// An InterpreterSession holds one interpreter for the use of its caller: others wait until it is gone. An Obj is an
// object in it, and is of use in its own session only. A ReplicatedObj is an object of which every interpreter of the
// manager has a copy, or will have one as soon as it is needed; tensors in it are shared, not copied. Its calls run
// wherever an interpreter is free, from any thread, at once in as many interpreters as there are.
//
//   InterpreterSession session = manager.acquireOne();
//   Obj model = session.global("torch.nn", "Linear")(3, 4);
//   ReplicatedObj movable = session.createMovable(model);
//
// Threads: everything may be used from any thread. A session lets through what the thread that acquired it calls
// elsewhere, too, so a thread that has a session never waits for itself.
//
// Lifetimes: copies of each of these refer to the same thing. In any order of destruction, and after the manager's,
// destructors are silent and all else throws: SessionError after the session, ClosedError after the manager.
#pragma once

#include <memory>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "multipy_actors/export.h"
#include "multipy_actors/future.h"
#include "multipy_actors/value.h"

namespace multipy_actors {

class Argument;
class Interpreter;
class InterpreterSession;
class Package;
class ReplicatedObj;

namespace detail {
class Session;
struct Replicas;
struct SessionObject;
}  // namespace detail

using Arguments = std::vector<Argument>;
using KeywordArguments = std::unordered_map<std::string, Argument>;

/// An object of Python, in the interpreter of a session.
class MULTIPY_ACTORS_API Obj {
 public:
  /// None at all; only to be assigned to.
  Obj() = default;

  template <typename... Args>
  Obj operator()(Args&&... args) const;
  Obj call(const Arguments& args) const;
  Obj callKwargs(const Arguments& args, const KeywordArguments& kwargs) const;
  Obj callKwargs(const KeywordArguments& kwargs) const;
  Obj attr(const std::string& name) const;
  bool hasattr(const std::string& name) const;
  /// What it is as data; of kind `object` if it is none.
  Value value() const;
  template <typename T>
  T to() const {
    return value().to<T>();
  }

 private:
  friend class InterpreterSession;
  friend class detail::Session;
  explicit Obj(std::shared_ptr<detail::SessionObject> object) : object_(std::move(object)) {}
  detail::SessionObject& object() const;

  std::shared_ptr<detail::SessionObject> object_;
};

/// What a call in a session is given: data, or an object of the session.
class Argument {
 public:
  Argument(Obj object) : object_(std::move(object)), is_object_(true) {}
  template <typename T, std::enable_if_t<std::is_convertible_v<T, Value> && !std::is_same_v<std::decay_t<T>, Obj> &&
                                             !std::is_same_v<std::decay_t<T>, Argument>,
                                         int> = 0>
  Argument(T&& value) : value_(std::forward<T>(value)) {}

  bool isObject() const noexcept { return is_object_; }
  const Obj& object() const noexcept { return object_; }
  const Value& value() const noexcept { return value_; }

 private:
  Value value_;
  Obj object_;
  bool is_object_ = false;
};

template <typename... Args>
Obj Obj::operator()(Args&&... args) const {
  return call(Arguments{Argument(std::forward<Args>(args))...});
}

/// Exclusive use of one interpreter, until it is destroyed.
class MULTIPY_ACTORS_API InterpreterSession {
 public:
  InterpreterSession(InterpreterSession&&) noexcept = default;
  InterpreterSession& operator=(InterpreterSession&&) noexcept;
  ~InterpreterSession();

  /// In a session of a package its importer, and in one of a ReplicatedObj the object; else none.
  Obj self;

  /// `name`, which may have dots, of the module; a session of a package looks into that first.
  Obj global(const std::string& module, const std::string& name) const;
  Obj fromValue(const Value& value) const;
  /// The copy that this interpreter has.
  Obj fromMovable(const ReplicatedObj& movable) const;
  /// Copies an object of this session to every interpreter.
  ReplicatedObj createMovable(const Obj& object) const;
  bool isOwner(const Obj& object) const noexcept;
  /// Of the interpreter, from 0.
  std::size_t interpreter() const;
  /// Lets go of the interpreter before the destructor does.
  void end() noexcept;

 private:
  friend class Interpreter;
  friend class InterpreterManager;
  friend class Package;
  friend class ReplicatedObj;
  explicit InterpreterSession(std::shared_ptr<detail::Session> session);
  detail::Session& session() const;

  std::shared_ptr<detail::Session> session_;
};

/// An object of which every interpreter has a copy.
class MULTIPY_ACTORS_API ReplicatedObj {
 public:
  /// None; only to be assigned to.
  ReplicatedObj() = default;
  explicit ReplicatedObj(std::shared_ptr<detail::Replicas> replicas) : replicas_(std::move(replicas)) {}

  /// Calls it where an interpreter is free, and waits for the value.
  template <typename... Args>
  Value operator()(Args&&... args) const {
    return call(Value::List{Value(std::forward<Args>(args))...});
  }
  Value call(const Value::List& args) const { return submitKwargs(args, {}).get(); }
  Value callKwargs(const Value::List& args, const std::unordered_map<std::string, Value>& kwargs) const {
    return submitKwargs(args, kwargs).get();
  }
  Value callKwargs(const std::unordered_map<std::string, Value>& kwargs) const {
    return submitKwargs({}, kwargs).get();
  }
  /// Calls a method of it.
  template <typename... Args>
  Value callMethod(const std::string& name, Args&&... args) const {
    return submitMethod(name, Value::List{Value(std::forward<Args>(args))...}, {}).get();
  }
  /// The same without waiting.
  template <typename... Args>
  Future submit(Args&&... args) const {
    return submitKwargs(Value::List{Value(std::forward<Args>(args))...}, {});
  }
  Future submitKwargs(const Value::List& args, const std::unordered_map<std::string, Value>& kwargs) const;
  Future submitMethod(const std::string& name, const Value::List& args,
                      const std::unordered_map<std::string, Value>& kwargs) const;
  bool hasattr(const std::string& name) const;
  /// Holds an interpreter that has a copy, or `interpreter`; the session's `self` is that copy.
  InterpreterSession acquireSession() const;
  InterpreterSession acquireSession(const Interpreter& interpreter) const;
  /// The copy of the session's interpreter.
  Obj toObj(const InterpreterSession& session) const { return session.fromMovable(*this); }
  /// Drops the copy of one interpreter, or all of them; calls that nobody can run any more throw ClosedError.
  void unload() const;
  void unload(const Interpreter& interpreter) const;
  /// As an argument of calls it is a handle there.
  Value toValue() const;

 private:
  friend class InterpreterSession;
  detail::Replicas& replicas() const;

  std::shared_ptr<detail::Replicas> replicas_;
};

template <>
struct Converter<ReplicatedObj> {
  static Value toValue(const ReplicatedObj& movable) { return movable.toValue(); }
};

}  // namespace multipy_actors
