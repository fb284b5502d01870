// The errors the core throws. Each maps to one Python exception in bindings/ (see multipy_actors/errors.py).
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include "base/export.h"

namespace multipy {

/// Root of everything the core throws; Python sees `MultipyError`.
class MULTIPY_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  ~Error() override;
};

/// A shared library could not become a private image; Python sees `ImageError(ImportError)`.
class MULTIPY_API ImageError : public Error {
 public:
  ImageError(std::string file, const std::string& reason, const std::string& symbol = {});
  ~ImageError() override;

  const std::string& file() const noexcept { return file_; }
  const std::string& symbol() const noexcept { return symbol_; }

 private:
  std::string file_;
  std::string symbol_;
};

/// A private Python did not come up; Python sees `InterpreterStartError`.
class MULTIPY_API StartError : public Error {
 public:
  using Error::Error;
  ~StartError() override;
};

/// Something was posted after close; Python sees `PoolClosedError`.
class MULTIPY_API ClosedError : public Error {
 public:
  using Error::Error;
  ~ClosedError() override;
};

/// A wait could never have ended; Python sees `DeadlockError`.
class MULTIPY_API DeadlockError : public Error {
 public:
  using Error::Error;
  ~DeadlockError() override;
};

/// There is no room for a call; Python sees `MailboxFullError`.
class MULTIPY_API FullError : public Error {
 public:
  using Error::Error;
  ~FullError() override;
};

}  // namespace multipy
