// An interpreter's own environment variables.
//
// glibc's setenv may move or free what a getenv on another thread is reading; one GIL used to keep Python code from
// doing both at once, several do not. So every namespace owns a copy of the process's environment, taken when it is
// created, and its images' references to getenv, setenv, environ and the like are bound to that copy. It isolates as a
// process would: os.environ of one interpreter, and what its C libraries read, is nobody else's. Shared libraries and
// the host keep the process's environment.
//
// One lock per environment. Strings and arrays once handed out are never freed, as POSIX callers expect.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/export.h"

namespace multipy::elf {

class MULTIPY_API Environment {
 public:
  /// A copy of `source` (as `environ`).
  explicit Environment(char** source);

  const char* get(const char* name) const;
  int set(const char* name, const char* value, bool overwrite);
  /// putenv: `entry` itself becomes part of the environment.
  int put(char* entry);
  int unset(const char* name);
  void clear();

  /// The variable that images know as `environ`; they may replace the array it points to.
  char*** variable() noexcept { return &array_; }
  char** array() const;

 private:
  std::size_t index_of(const char* name, std::size_t length) const;
  void replace(std::size_t index, char* entry);
  char* keep(std::string text);

  mutable std::mutex mutex_;
  char** array_ = nullptr;                             // what `environ` reads; may be set by its owner
  std::vector<std::unique_ptr<char*[]>> arrays_;       // every array ever published
  std::size_t capacity_ = 0;                           // of the last of arrays_
  std::vector<std::unique_ptr<std::string>> strings_;  // every entry ever made here
};

}  // namespace multipy::elf
