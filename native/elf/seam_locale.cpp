// The part of the seam that sets the locale, and what libc answers from memory that is the process's: own_locale.h.
#include <locale.h>

#include <array>
#include <mutex>

#include "base/process_lock.h"
#include "elf/caller.h"

namespace multipy::elf {

namespace {

char* seam_setlocale(int category, const char* name) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::setlocale(category, name);
  Namespace& space = *caller.space;
  const char* const none = nullptr;
  return const_cast<char*>(
      answer_or_errno([&] { return space.locale().set(category, name, space.environment()); }, none));
}

lconv* seam_localeconv() {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::localeconv();
  static auto& mutex = *new ProcessLock<std::mutex>(ForkOrder::locale);
  thread_local lconv own;
  const std::lock_guard lock(mutex);
  own = *::localeconv();
  return &own;
}

}  // namespace

std::span<const SeamFunction> functions_of_locale() {
  static const std::array functions{
      SeamFunction{"setlocale", reinterpret_cast<void*>(seam_setlocale), true},
      SeamFunction{"localeconv", reinterpret_cast<void*>(seam_localeconv), true},
  };
  return functions;
}

}  // namespace multipy::elf
