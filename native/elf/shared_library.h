// The libraries all interpreters share: opened with glibc's own dlopen, looked up with its dlsym.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "elf/file.h"
#include "elf/search.h"

namespace multipy::elf {

/// A thread-local variable of a shared library.
struct SharedTls {
  std::size_t module = 0;    // glibc's module id
  std::uint64_t offset = 0;  // in the module's block
  bool is_static = false;    // in the static TLS block: at one distance from every thread pointer
};

/// Opens the library found at `path` under the name `name` that `requesters` asked for it by (glibc may have it
/// already), after what it needs itself: glibc would not know the search paths it inherits from private images.
/// Returns its handle; throws ImageError naming the requester.
void* open_shared(const std::string& name, const std::string& path, const Requesters& requesters);

/// The address of `name` in the global scope (`handle == nullptr`) or in `handle` and what it needs; null: not there.
void* find_shared(void* handle, const SymbolName& name);

/// As find_shared in the global scope, remembered. Not for thread-locals, whose address is the asking thread's.
void* find_global(const SymbolName& name);

/// The module and offset of the thread-local variable `name` in `handle` or a library it needs.
std::optional<SharedTls> find_shared_tls(void* handle, const SymbolName& name);

/// The path of the library behind a glibc handle.
std::string path_of(void* handle);

struct Extent {
  std::uintptr_t base = 0;
  std::size_t size = 0;
};
/// Where a library that glibc has loaded lies.
Extent extent_of(void* handle);

}  // namespace multipy::elf
