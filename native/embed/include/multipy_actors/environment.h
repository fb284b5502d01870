// Which Python the interpreters are, and where they import from.
//
// The interpreters of a program are private copies of an installed Python: its version, standard library, flags and
// packages. Which one, in this order: what the Environment names; the environment variable MULTIPY_PYTHON; the virtual
// environment or prefix in which libmultipy_embed.so lies; `python3` in PATH. It is run once, and asked for all this.
#pragma once

#include <string>
#include <vector>

#include "multipy_actors/export.h"

namespace multipy_actors {

class Interpreter;

class MULTIPY_ACTORS_API Environment {
 public:
  /// With the executable `python`; found as described above if it is empty.
  explicit Environment(std::string python = {});
  virtual ~Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  const std::string& python() const noexcept { return python_; }
  /// The interpreters' `sys.path`, given that of the installed Python.
  virtual std::vector<std::string> searchPaths(std::vector<std::string> installed) const;
  /// Called for each interpreter once it is up.
  virtual void configureInterpreter(Interpreter& interpreter) const;

 private:
  const std::string python_;
};

/// Just what the installed Python has.
class MULTIPY_ACTORS_API NoopEnvironment final : public Environment {
 public:
  using Environment::Environment;
  ~NoopEnvironment() override;
};

/// More folders with packages, searched first.
class MULTIPY_ACTORS_API PathEnvironment final : public Environment {
 public:
  explicit PathEnvironment(std::string path, std::string python = {});
  explicit PathEnvironment(std::vector<std::string> paths, std::string python = {});
  ~PathEnvironment() override;

  std::vector<std::string> searchPaths(std::vector<std::string> installed) const override;

 private:
  const std::vector<std::string> paths_;
};

}  // namespace multipy_actors
