// An archive that one interpreter has read into memory, and the others open there (see
// multipy_actors/worker/torch_packages.py).
//
// What everything asked of the package takes as its first argument is the call that has read it. The interpreters keep
// the package open until the last copy of its Package goes; what was loaded from it goes on working.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "host.h"
#include "multipy_actors/package.h"

namespace multipy_actors::detail {

struct PackageSource {
  /// Throws what is wrong with the file.
  static std::shared_ptr<const PackageSource> open(const std::shared_ptr<Host>& host, const std::string& path);
  static std::shared_ptr<const PackageSource> open(const std::shared_ptr<Host>& host, const Reader& reader);

  PackageSource(std::shared_ptr<Host> owner, CallPtr reading, std::uint64_t id)
      : host(std::move(owner)), opened(std::move(reading)), number(id) {}
  ~PackageSource();
  PackageSource(const PackageSource&) = delete;
  PackageSource& operator=(const PackageSource&) = delete;

  /// Asks the interpreter that is free first.
  CallPtr post(Value::List operation, Value::List args) const;
  /// A handle of what `load` loads as actor `actor`, and others from `source`.
  ReplicatedObj replicate(const CallPtr& load, std::uint64_t actor, const Value::List& source) const;

  const std::shared_ptr<Host> host;
  const CallPtr opened;
  const std::uint64_t number;
};

}  // namespace multipy_actors::detail
