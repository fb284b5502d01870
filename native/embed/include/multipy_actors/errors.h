// What this library throws: one root, so that `catch (const multipy_actors::Error&)` catches all of it.
#pragma once

#include <stdexcept>
#include <string>

#include "multipy_actors/export.h"

namespace multipy_actors {

class MULTIPY_ACTORS_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  ~Error() override;
};

/// No Python was found, or a private one did not come up; the text says why and, if known, what to install.
class MULTIPY_ACTORS_API StartError : public Error {
 public:
  using Error::Error;
  ~StartError() override;
};

/// What was to be used is over: the manager was closed, or the object unloaded.
class MULTIPY_ACTORS_API ClosedError : public Error {
 public:
  using Error::Error;
  ~ClosedError() override;
};

/// An Obj was used in a session that is not its own, or after its session.
class MULTIPY_ACTORS_API SessionError : public Error {
 public:
  using Error::Error;
  ~SessionError() override;
};

/// A Value is of another kind than asked for, or of a kind that cannot be sent or has no counterpart in C++.
class MULTIPY_ACTORS_API ConversionError : public Error {
 public:
  using Error::Error;
  ~ConversionError() override;
};

/// A wait could never have ended.
class MULTIPY_ACTORS_API DeadlockError : public Error {
 public:
  using Error::Error;
  ~DeadlockError() override;
};

/// The call was cancelled before it began.
class MULTIPY_ACTORS_API CancelledError : public Error {
 public:
  using Error::Error;
  ~CancelledError() override;
};

/// What Python code raised. `what()` holds type, message and traceback.
class MULTIPY_ACTORS_API RemoteError : public Error {
 public:
  RemoteError(std::string type, std::string message, std::string traceback);
  ~RemoteError() override;

  /// The qualified name of the exception's class, "ValueError" or "package.module.Class".
  const std::string& type() const noexcept { return type_; }
  /// `str()` of the exception.
  const std::string& message() const noexcept { return message_; }
  /// As Python prints it, causes included.
  const std::string& traceback() const noexcept { return traceback_; }

 private:
  std::string type_;
  std::string message_;
  std::string traceback_;
};

}  // namespace multipy_actors
