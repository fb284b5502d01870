// Models and code that torch.package has put into one file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "multipy_actors/export.h"
#include "multipy_actors/session.h"

namespace multipy_actors {

namespace detail {
struct PackageSource;
}

/// Where the bytes of a package come from, if not from a file. Read once, from the thread that loads the package.
class MULTIPY_ACTORS_API Reader {
 public:
  Reader() = default;
  virtual ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  virtual std::size_t size() const = 0;
  /// Writes `count` bytes from `position` on to `target`; returns how many there were.
  virtual std::size_t read(std::uint64_t position, void* target, std::size_t count) const = 0;
};

/// A loaded package. Copies refer to the same one.
class MULTIPY_ACTORS_API Package {
 public:
  explicit Package(std::shared_ptr<const detail::PackageSource> source) : source_(std::move(source)) {}

  /// The object pickled as `resource` of `module`, which in Python's terms is a package. One interpreter loads it now;
  /// each of the others when it first needs it or, with `eager`, now. The weights are in memory once.
  ReplicatedObj loadPickle(const std::string& module, const std::string& resource, bool eager = false) const;
  /// A module of the package; its functions are called with callMethod().
  ReplicatedObj importModule(const std::string& name) const;
  std::string loadText(const std::string& module, const std::string& resource) const;
  std::string loadBinary(const std::string& module, const std::string& resource) const;
  /// Its `self` is the package's importer, and its global() looks into the package first.
  InterpreterSession acquireSession() const;

 private:
  std::shared_ptr<const detail::PackageSource> source_;
};

}  // namespace multipy_actors
