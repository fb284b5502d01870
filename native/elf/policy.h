// Which libraries get a private image: data, not code paths.
//
// A library is private when it references the CPython API, needs a private library, or a private pattern names it.
// Patterns are shell patterns, matched against the file's base name, or against the whole path when the pattern
// contains a slash. A shared pattern overrules a private one. What must be private all the same (it uses the CPython
// API, or needs what is private) is refused with an error, as two copies of it would be mixed.
//
// Many libraries know nothing of Python and yet keep what Python code gave them: a callback for log messages, a type in
// a registry, an error handler. Shared, such a library would call into an interpreter other than the caller's, or into
// one that has ended. So a library that comes with a Python package (*packaged*) is private too: it is there for the
// package's sake. Libraries of the system are shared, but for those that are known to keep such things.
//
// Packaged libraries that stay shared: the runtimes of compilers and OpenMP, allocators (memory is freed elsewhere than
// it was allocated) and what keeps the state of a GPU. So does one with thread-locals in the static TLS block, which
// has room for few copies.
//
// Rejected: to have every library private (each costs five mappings, and some keep the state of the machine, not of
// Python); to share what is packaged, and list what is known to go wrong (the list is never complete).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/export.h"

namespace multipy::elf {

enum class Verdict { by_content, always_private, always_shared };

struct MULTIPY_API Policy {
  std::vector<std::string> private_patterns;
  std::vector<std::string> shared_patterns;
  std::vector<std::string> packaged_shared_patterns;  // of packaged libraries that are judged by their content alone

  /// Private libraries that write the process's id into files which others read, to tell who is there: for them each
  /// interpreter has an id of its own.
  std::vector<std::string> numbered_patterns;

  /// What is known of libraries; the reasons stand beside the patterns.
  static Policy standard();

  /// Throws std::invalid_argument for a pattern that asks for what cannot be: glibc more than once, or a libpython (of
  /// the name `libpython`), an extension (`extension`) or a libc10 that interpreters share.
  void check(std::string_view libpython, std::string_view extension) const;

  Verdict decide(const std::string& path) const;

  /// Whether `path` is a packaged library, and none of those that stay shared: it lies in a folder for packages
  /// (site-packages, dist-packages), in one that auditwheel made (NAME.libs), or in a package (a folder with
  /// __init__.py) or a folder or two below.
  bool is_packaged(const std::string& path) const;
  /// Whether numbered_patterns name `path`.
  bool tells_processes_apart(const std::string& path) const;
};

}  // namespace multipy::elf
